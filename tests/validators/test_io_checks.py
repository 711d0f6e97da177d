"""Checks ZO020 to ZO030: each passes on contracts in order and is failed by a fault of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.specs.bench import CODES, Workbench
from tests.specs.intrinsics import INTRINSICS, Intrinsic
from tests.specs.mutants import mutants
from tests.validators.releases import static_results
from zoo.models import BaseModel
from zoo.report import Crashed, Finding, Flagged, NotApplicable, Passed, Result, Severity, Skipped

BY_NAME = {intrinsic.name: intrinsic for intrinsic in INTRINSICS}
CHECKED, CITED, GRADED = BY_NAME["requirement_check"], BY_NAME["citations"], BY_NAME["answerability"]
ATTRIBUTED, DIGITS = BY_NAME["context_attribution"], BY_NAME["certainty_digits"]


@pytest.fixture(scope="module")
def bench(tiny_base: BaseModel, built_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(base=tiny_base, release=built_release, folder=tmp_path_factory.mktemp("contracts"))


def findings(results: list[Result], *severities: Severity) -> dict[str, list[Finding]]:
    wanted = severities or (Severity.ERROR, Severity.WARNING)
    found = {}
    for result in results:
        assert not isinstance(result.outcome, Crashed), result
        if isinstance(result.outcome, Flagged):
            held = [one for one in result.outcome.findings if one.severity in wanted]
            if held:
                found[result.code] = held
    return found


@pytest.mark.parametrize("intrinsic", INTRINSICS, ids=lambda one: one.name)
def test_a_contract_in_order_passes_every_check(intrinsic: Intrinsic, bench: Workbench) -> None:
    results = bench.results(bench.place(intrinsic, intrinsic.text, "valid"))
    assert {result.code for result in results} == CODES
    assert not findings(results)
    assert not [result for result in results if isinstance(result.outcome, Skipped)]
    assert bench.executed(intrinsic, _spec(intrinsic)) == ("", False)


def _spec(intrinsic: Intrinsic):  # type: ignore[no-untyped-def]
    from zoo.specs.io_file import read_io

    return read_io(intrinsic.path)


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
FAULTS: dict[str, tuple[Intrinsic, Callable[[str], str], str, Severity, int]] = {
    "misspelt field": (CHECKED, replaced("input_path: []", "inptu_path: []"), "ZO020", ERROR, 22),
    "an older spelling": (DIGITS, lambda text: text, "ZO020", INFO, 13),
    "misspelt path": (CHECKED, replaced('["score"]\n  - type', '["scor"]\n  - type'), "ZO021", ERROR, 20),
    "odd schema": (CHECKED, replaced('"required": ["score"]', '"required": ["sore"]'), "ZO021", ERROR, 12),
    "no number for no": (CHECKED, replaced('      "no": 0.0\n', ""), "ZO022", ERROR, 17),
    "attribute in a field": (CHECKED, replaced("{requirement}", "{requirement.x}"), "ZO023", ERROR, 24),
    "single braces": (CHECKED, replaced('{{"score": "no"}}', '{"score": "no"}'), "ZO023", ERROR, 24),
    "another key": (CHECKED, replaced('{{"score": "no"}}', '{{"label": "no"}}'), "ZO024", WARNING, 24),
    "another value": (CHECKED, replaced('{{"score": "no"}}', '{{"score": "maybe"}}'), "ZO024", WARNING, 24),
    "no boundary": (CITED, replaced('  last_message: "r"\n', ""), "ZO025", ERROR, 26),
    "two countings": (
        ATTRIBUTED, replaced("[documents, all_but", "[last_message, documents, all_but"), "ZO025", ERROR, 28,
    ),
    "mellea's order": (
        ATTRIBUTED,
        replaced("source: [documents, all_but_last_message]", "source: [all_but_last_message, documents]"),
        "ZO025", WARNING, 28,
    ),
    "one prefix for two": (CITED, replaced('documents: "c"', 'documents: "r"'), "ZO025", WARNING, 64),
    "too few tokens": (CHECKED, replaced("tokens: 20", "tokens: 3"), "ZO026", ERROR, 29),
    "too few for the longest": (
        GRADED, replaced("max_completion_tokens: 20", "max_completion_tokens: 10"), "ZO026", WARNING, 17,
    ),
    "no number of tokens": (
        CHECKED, replaced("max_completion_tokens: 20", 'max_completion_tokens: "20"'), "ZO026", ERROR, 29,
    ),
    "no invocation": (CHECKED, replaced("<|im_start|>check\n  The", "The"), "ZO027", ERROR, 24),
    "invocation merges": (CHECKED, replaced("check\n  The", "check The"), "ZO027", ERROR, 24),
    "invocation twice": (CHECKED, replaced('"}} if', '"}} <|im_start|>check\n  if'), "ZO027", ERROR, 24),
    "unknown argument": (CHECKED, replaced("{requirement}", "{requirements}"), "ZO027", ERROR, 0),
    "granite-common": (CHECKED, lambda text: text, "ZO028", INFO, 1),
    "one first token": (
        CHECKED,
        lambda text: text.replace('"no"]', '"yes no"]').replace('"no": 0.0', '"yes no": 0.0').replace(
            '{{"score": "no"}}', "that"
        ),
        "ZO029", WARNING, 17,
    ),
    "replies": (CHECKED, replaced("  temperature: 0.0", "  n: 2"), "ZO030", ERROR, 30),
    "another schema": (
        CHECKED, replaced("  temperature: 0.0", "  guided_json: {type: string}"), "ZO030", ERROR, 30,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_flagged_by_its_check_and_no_other(name: str, bench: Workbench) -> None:
    intrinsic, change, code, severity, line = FAULTS[name]
    results = bench.results(bench.place(intrinsic, change(intrinsic.text), "fault"))
    found = findings(results, severity)
    assert code in found
    others = findings(results).keys() - {code}
    assert not others
    first = found[code][0]
    assert first.fix
    assert not first.message.endswith(".")
    if line:
        assert first.location is not None
        assert (first.location.file, first.location.line) == ("io.yaml", line)


def test_every_check_of_a_contract_has_a_fault() -> None:
    assert {code for _, _, code, _, _ in FAULTS.values()} == CODES


def test_without_a_contract_nothing_of_it_is_asked(release: Path, tiny_base: BaseModel) -> None:
    results = {result.code: result.outcome for result in static_results(release, tiny_base)}
    assert all(isinstance(results[code], NotApplicable) for code in CODES)


def test_what_cannot_be_loaded_names_the_code_of_its_fault(bench: Workbench) -> None:
    text = CHECKED.text.replace('"no": 0.0', "no: 0.0")
    (finding,) = findings(bench.results(bench.place(CHECKED, text, "fault")))["ZO020"]
    assert finding.message.startswith("ZO010: io.yaml:19:7: ")


def test_without_sample_requests_stand_ins_are_rendered_and_it_is_said(bench: Workbench) -> None:
    folder = bench.place(CHECKED, CHECKED.text, "fault")
    release = yaml.safe_load((folder / "zoo.yaml").read_text())
    del release["requests"]
    (folder / "zoo.yaml").write_text(yaml.safe_dump(release))
    (outcome,) = [one.outcome for one in bench.results(folder) if one.code == "ZO027"]
    assert isinstance(outcome, Flagged)
    assert outcome.severity is Severity.INFO
    assert outcome.measured["requests"] == 6
    assert outcome.measured["requests_with_the_invocation_once"] == 6


def test_what_upstream_does_with_a_file_is_in_the_report(bench: Workbench) -> None:
    results = bench.results(bench.place(GRADED, GRADED.text, "valid"))
    (outcome,) = [one.outcome for one in results if one.code == "ZO028"]
    assert isinstance(outcome, Flagged | Passed)
    assert outcome.measured["mellea 0.8.0"] == "loads it"
    assert str(outcome.measured["granite-common 0.4.1"]).startswith("refuses it")


def test_mutants_that_break_are_flagged_and_the_rest_is_seen_by_the_diff(bench: Workbench) -> None:
    """One in thirty of those that tests.benchmarks.io_mutations judges."""
    every = [mutant for intrinsic in INTRINSICS for mutant in mutants(intrinsic)]
    assert len(every) > 900
    broken = 0
    for mutant in every[::30]:
        verdict = bench.verdict(mutant)
        assert not verdict.crashed
        broken += bool(verdict.broken)
        if verdict.broken:
            assert verdict.flagged, mutant.id
        if verdict.changed and not verdict.flagged:
            assert verdict.diff in ("breaking", "compatible"), mutant.id
    assert broken > 8
