"""Several adapters' reports as one: the same in every format, and nothing of it lost or acting."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from junitparser import JUnitXml

from tests.render.reports import FULL, HOSTILE, with_results
from tests.render.test_formats import SARIF_SCHEMA
from zoo.cli import run
from zoo.render.json import to_document
from zoo.render.suffix import own_paths, renderers, write_outputs, write_together
from zoo.render.together import render_together
from zoo.render.verdict import overall, tally
from zoo.report import Report

GOOD = replace(with_results("ZX001"), subject="library/good")
OPEN = replace(with_results("ZX001", "ZX005"), subject="library/open")
BAD = replace(with_results("ZX001", "ZX002"), subject="library/bad")
ALL = [GOOD, OPEN, BAD]
PLACES = ["report.library-good.x", "report.library-open.x", "report.library-bad.x"]


def test_the_run_comes_to_the_most_telling_of_its_adapters() -> None:
    assert (overall(ALL), overall([GOOD, OPEN]), overall([GOOD])) == ("failed", "incomplete", "passed")
    accepted = replace(with_results("ZX001", "ZX006"), subject="a/b")
    assert overall([GOOD, accepted]) == "accepted"
    assert (
        tally([*ALL, accepted]) == "4 adapters: 1 passed, 1 incomplete (open), 1 failed (bad), 1 accepted (b)"
    )


def test_json_junit_and_sarif_hold_every_report() -> None:
    assert json.loads(render_together(ALL, ".json", PLACES)) == [to_document(report) for report in ALL]
    suites = JUnitXml.fromstring(render_together(ALL, ".xml", PLACES).encode())
    assert [suite.name for suite in suites] == [report.subject for report in ALL]
    document = json.loads(render_together(ALL, ".sarif", PLACES))
    jsonschema.validate(document, SARIF_SCHEMA)
    (run_,) = document["runs"]
    assert [one["exitCode"] for one in run_["invocations"]] == [0, 3, 1]
    rules = [rule["id"] for rule in run_["tool"]["driver"]["rules"]]
    assert rules == ["ZX001", "ZX005", "ZX002"]
    for result in run_["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"] == "ZX002"
        assert result["message"]["text"].startswith("bad: ")
    first = run_["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert first == {"uri": "library/bad/adapter_config.json"}


def test_absolute_paths_stay_apart_and_at_home() -> None:
    both = [replace(BAD, subject=f"/home/me/{name}") for name in ("one", "two")]
    text = render_together(both, ".sarif", PLACES[:2])
    found = {
        one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for one in json.loads(text)["runs"][0]["results"]
        if "locations" in one
    }
    assert {"one/adapter_config.json", "two/adapter_config.json"} < found
    assert "/home/me" not in text


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_the_table_begins_with_what_is_wrong_and_leads_to_each_report(suffix: str) -> None:
    text = render_together(ALL, suffix, PLACES)
    order = [text.index(place) for place in reversed(PLACES)]
    assert order == sorted(order)
    assert "NOT CHECKED" in text


class Page(HTMLParser):
    """Tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", [HOSTILE, '"><script>', "javascript:alert(1)", "a#b?c%d"])
def test_a_strangers_name_leads_nowhere_else(name: str) -> None:
    def page(subject: str) -> Page:
        report = replace(GOOD, subject=subject)
        own = own_paths([Path("report.html")], report)[0].name
        return Page(render_together([report, BAD], ".html", [own, PLACES[2]]))

    found, plain = page(name), page("plain")
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    links = [attrs["href"] or "" for tag, attrs in found.tags if tag == "a"]
    assert len(links) == 2
    assert not any(set(link) & set(':#?"<> ') for link in links)


def test_each_adapter_has_its_own_file_beside_the_one_over_all(tmp_path: Path) -> None:
    outputs = [tmp_path / f"report{suffix}" for suffix in renderers()]
    for report in ALL:
        write_outputs(report, own_paths(outputs, report))
    write_together(ALL, outputs)
    assert len(list(tmp_path.iterdir())) == 4 * len(outputs)
    page = Page((tmp_path / "report.html").read_text())
    for link in (attrs["href"] for tag, attrs in page.tags if tag == "a"):
        assert (tmp_path / str(link)).is_file()


def test_a_gate_and_a_validation_over_several_write_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / "library" / f"{name}_lora").mkdir(parents=True)
        (tmp_path / "library" / f"{name}_lora" / "adapter_config.json").write_text("{}")
    for command in (["gate"], ["validate", "--static"]):
        output = tmp_path / f"{command[0]}.json"
        assert run([*command, "--library", str(tmp_path / "library"), "-o", str(output), "-q"]) == 1
        assert "2 adapters: 2 failed (one_lora, two_lora)" in capsys.readouterr().out
        reports: list[dict[str, str]] = json.loads(output.read_text())
        assert [Path(report["subject"]).name for report in reports] == ["one_lora", "two_lora"]


def test_no_format_is_left_out() -> None:
    for suffix in renderers():
        assert render_together(ALL, suffix, PLACES).endswith("\n")
    with pytest.raises(ValueError, match="no format"):
        render_together(ALL, ".pdf", PLACES)


def test_reports_of_one_are_what_they_were() -> None:
    report: Report = FULL
    for suffix in (".xml", ".sarif"):
        assert render_together([report], suffix, [""]) == renderers()[suffix](report)
