"""JUnit, SARIF, Markdown and the terminal, from one report with everything in it."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from junitparser import Error, Failure, JUnitXml, TestSuite
from junitparser import Skipped as SkippedCase

from tests.render.reports import FULL, HOSTILE, with_results
from zoo.errors import UsageError
from zoo.render.junit import render_junit
from zoo.render.markdown import render_markdown
from zoo.render.sarif import render_sarif
from zoo.render.suffix import check_outputs, write_outputs
from zoo.render.terminal import render_line, render_terminal
from zoo.render.text import printable
from zoo.render.verdict import verdict
from zoo.report import Report

GOLDEN = Path(__file__).parents[1] / "golden" / "report.md"
RENDERERS = (render_junit, render_sarif, render_markdown, render_terminal)

# The parts of the SARIF 2.1.0 schema that a run of ours uses, with its required keys and closed objects.
TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
SARIF_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/run"}},
    },
    "$defs": {
        "level": {"enum": ["none", "note", "warning", "error"]},
        "run": {
            "type": "object",
            "required": ["tool", "results"],
            "additionalProperties": False,
            "properties": {
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "additionalProperties": False,
                    "properties": {
                        "driver": {
                            "type": "object",
                            "required": ["name"],
                            "additionalProperties": False,
                            "properties": {
                                "name": {"type": "string"},
                                "version": {"type": "string"},
                                "rules": {
                                    "type": "array",
                                    "uniqueItems": True,
                                    "items": {
                                        "type": "object",
                                        "required": ["id"],
                                        "additionalProperties": False,
                                        "properties": {
                                            "id": {"type": "string"},
                                            "shortDescription": TEXT,
                                            "help": TEXT,
                                        },
                                    },
                                },
                            },
                        }
                    },
                },
                "invocations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["executionSuccessful"],
                        "additionalProperties": False,
                        "properties": {
                            "executionSuccessful": {"type": "boolean"},
                            "exitCode": {"type": "integer"},
                            "toolExecutionNotifications": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["message"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "message": TEXT,
                                        "level": {"$ref": "#/$defs/level"},
                                        "associatedRule": {"type": "object", "required": ["id"]},
                                    },
                                },
                            },
                        },
                    },
                },
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "properties": {"type": "object"},
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
            },
        },
        "result": {
            "type": "object",
            "required": ["message"],
            "additionalProperties": False,
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": 0},
                "level": {"$ref": "#/$defs/level"},
                "message": TEXT,
                "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                "locations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "physicalLocation": {
                                "type": "object",
                                "required": ["artifactLocation"],
                                "additionalProperties": False,
                                "properties": {
                                    "artifactLocation": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "properties": {
                                            "uri": {"type": "string", "pattern": r"^[A-Za-z0-9/._~%-]+$"},
                                            "uriBaseId": {"type": "string"},
                                        },
                                    },
                                    "region": {
                                        "type": "object",
                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                    },
                                },
                            },
                            "logicalLocations": {"type": "array", "items": {"type": "object"}},
                        },
                    },
                },
            },
        },
    },
}


def sarif(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render_sarif(report))
    jsonschema.validate(document, SARIF_SCHEMA)
    return document["runs"][0]


def test_sarif_has_a_result_a_finding_at_its_line() -> None:
    run = sarif(FULL)
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("ZX002", "error"), ("ZX002", "error"), ("ZX002", "note"), ("ZX003", "warning"),
    ]  # fmt: skip
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "adapters/check/adapter_config.json"},
        "region": {"startLine": 7},
    }
    hostile = run["results"][1]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert hostile == "adapters/check/a%20b/%C3%BC.md"


def test_sarif_says_what_was_not_checked_and_what_crashed() -> None:
    (invocation,) = sarif(FULL)["invocations"]
    said = [(n["associatedRule"]["id"], n["level"]) for n in invocation["toolExecutionNotifications"]]
    assert said == [("ZX005", "warning"), ("ZX006", "warning"), ("ZX007", "error")]
    assert invocation["executionSuccessful"] is False
    assert invocation["exitCode"] == 4


def test_sarif_fingerprints_differ_and_survive_other_numbers_in_a_message() -> None:
    def fingerprints(report: Report) -> list[str]:
        return [result["partialFingerprints"]["zooFinding/v1"] for result in sarif(report)["results"]]

    first = fingerprints(FULL)
    assert len(set(first)) == len(first)
    assert fingerprints(with_results("ZX002")) == first[:3]


def test_an_absolute_subject_gives_no_path_of_this_machine_to_a_code_host() -> None:
    report = Report(subject="/home/me/check", digest="", results=with_results("ZX002").results)
    text = render_sarif(report)
    assert "/home/me" not in text
    assert "uriBaseId" in text


def test_junit_reads_back_with_every_outcome() -> None:
    document = JUnitXml.fromroot(JUnitXml.fromstring(render_junit(FULL).encode())._elem)
    (suite,) = (TestSuite.fromelem(element._elem) for element in document)
    cases = {case.classname: case for case in suite}
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (7, 2, 1, 3)
    assert [type(r) for r in cases["zoo.ZX002"].result] == [Failure, Failure]
    assert cases["zoo.ZX002"].result[0].type == "ZX002"
    assert "adapter_config.json:7" in cases["zoo.ZX002"].result[0].text
    assert cases["zoo.ZX003"].result == []
    assert "warning: odd" in cases["zoo.ZX003"].system_out
    assert [type(r) for r in cases["zoo.ZX005"].result] == [SkippedCase]
    assert cases["zoo.ZX005"].result[0].message == "NOT CHECKED: no network"
    assert cases["zoo.ZX004"].result[0].message == "not applicable: there is none"
    assert [type(r) for r in cases["zoo.ZX007"].result] == [Error]
    assert {p.name: p.value for p in suite.properties()}["status"] == "crashed"


def test_markdown_is_byte_for_byte_the_golden() -> None:
    assert render_markdown(FULL) == GOLDEN.read_text(encoding="utf-8")


def test_markdown_tables_keep_their_columns_whatever_is_in_the_cells() -> None:
    widths = set()
    for line in render_markdown(with_results("ZX002")).splitlines():
        if line.startswith("|"):
            widths.add(line.replace("\\|", "").count("|"))
        else:
            assert len(widths) <= 1
            widths = set()


@pytest.mark.parametrize("render", RENDERERS)
def test_every_format_is_stable_and_shows_nothing_invisible(render: Any) -> None:
    text = render(FULL)
    assert text == render(FULL)
    assert text.endswith("\n")
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "<script>" not in text or render in (render_terminal, render_sarif)


def test_printable_keeps_what_people_write() -> None:
    assert printable("naïve 灯台 ✓ a b") == "naïve 灯台 ✓ a b"
    assert printable("a\nb\tc\x7f") == "a\\nb\\tc\\x7f"


@pytest.mark.parametrize(
    ("codes", "start", "absent"),
    [
        (("ZX001",), "passed: 1 check holds", "NOT CHECKED"),
        (("ZX001", "ZX003", "ZX004"), "passed: 2 checks hold, 1 not applicable", "NOT CHECKED"),
        (("ZX001", "ZX006"), "accepted: 1 check holds; not checked, as is allowed: ZX006", "passed"),
        (("ZX001", "ZX005"), "incomplete: 1 check holds; NOT CHECKED: ZX005", "passed"),
        (("ZX001", "ZX002", "ZX005"), "failed: ZX002; 1 check holds; NOT CHECKED: ZX005", "passed"),
        (("ZX001", "ZX007"), "crashed: a defect in zoo", "passed"),
        ((), "incomplete: 0 checks hold", "passed"),
    ],
)
def test_the_verdict_in_words(codes: tuple[str, ...], start: str, absent: str) -> None:
    said = verdict(with_results(*codes))
    assert said.startswith(start)
    assert absent not in said


def test_the_terminal_groups_what_was_not_checked_and_names_the_page() -> None:
    text = render_terminal(FULL)
    assert "FAILED ZX002: the bias is 'all'\n  at adapter_config.json:7  bias\n  → train again\n" in text
    assert "  → zoo explain ZX002\n" in text
    assert "not checked ZX005: no network\n  → go online\n" in text
    assert "not checked ZX006: no GPU (allowed in zoo.yaml: nobody has a GPU)\n" in text
    assert "CRASHED ZX007: KeyError: 'x'\n" in text
    assert render_line(FULL.results[0]) == "ok       ZX001  All is well  1.2 s\n"


def test_colour_changes_no_word() -> None:
    import re

    coloured = render_terminal(FULL, colour=True)
    assert "\033[31m" in coloured
    assert re.sub(r"\033\[\d+m", "", coloured) == render_terminal(FULL)


def test_the_suffix_chooses_the_format(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.json", "b.XML", "c.sarif", "d.md")]
    check_outputs(paths)
    write_outputs(FULL, paths)
    assert json.loads(paths[0].read_text())["format"] == 1
    assert paths[1].read_text() == render_junit(FULL)
    assert paths[2].read_text() == render_sarif(FULL)
    assert paths[3].read_text() == render_markdown(FULL)


@pytest.mark.parametrize("name", ["a.pdf", "a", "none/a.md"])
def test_outputs_that_cannot_be_written_are_refused_first(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        check_outputs([tmp_path / name])


def test_hostile_text_is_in_the_report_to_begin_with() -> None:
    assert any(character in HOSTILE for character in "\x1b\x00\u202e")
