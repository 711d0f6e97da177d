"""ZB001 and ZL004: what was measured, and the base's weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.releases import COMPARISON
from tests.validators.changes import lock
from tests.validators.releases import GOOD, static_results
from zoo.models import BaseModel
from zoo.report import Flagged, Outcome, Passed, Severity, Skipped
from zoo.validators.checks.evidence import EVIDENCE_CHECKS
from zoo.validators.checks.lock import LOCK_CHECKS
from zoo.validators.engine import run_checks
from zoo.validators.validate import Settings, Validation

CHECKS = (*LOCK_CHECKS, *EVIDENCE_CHECKS)


def behaviour(folder: Path, base: BaseModel, **changes: Any) -> Outcome:
    record = GOOD.model_dump() | changes
    lock(lambda content: content.update(behaviour=record))(folder, base)
    return {r.code: r.outcome for r in static_results(folder, base, CHECKS)}["ZB001"]


def accuracy(**columns: float) -> dict[str, float]:
    return dict(GOOD.accuracy) | columns


def test_good_behaviour_passes_with_its_figures(release: Path, tiny_base: BaseModel) -> None:
    outcome = behaviour(release, tiny_base)
    assert isinstance(outcome, Passed)
    assert outcome.measured == {"samples": 400, "accuracy": 0.96, "agreement": 0.98}


def test_unverified_is_skipped_and_never_passed(release: Path, tiny_base: BaseModel) -> None:
    outcome = behaviour(release, tiny_base, status="unverified")
    assert isinstance(outcome, Skipped)
    assert "--recover" in outcome.hint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": accuracy(recovered=0.5)}, "always giving one answer"),
        ({"accuracy": accuracy(recovered=0.51)}, "does not beat the base model"),
        ({"accuracy": accuracy(recovered=0.88)}, "0.090 below the LoRA"),
        ({"agreement": {"recovered": 0.90}}, "0.95 is wanted"),
        ({"accuracy": {}, "agreement": {}}, "holds no measurement"),
        ({"samples": 0}, "holds no measurement"),
    ],
)
def test_poor_behaviour_is_an_error(
    changes: dict[str, Any], words: str, release: Path, tiny_base: BaseModel
) -> None:
    outcome = behaviour(release, tiny_base, **changes)
    assert isinstance(outcome, Flagged)
    assert outcome.severity is Severity.ERROR
    assert any(words in finding.message for finding in outcome.findings)


@pytest.mark.parametrize(
    "changes", [{"agreement": {"recovered": 0.94}}, {"samples": 99}], ids=["within the noise", "few samples"]
)
def test_what_cannot_be_told_apart_is_a_warning(
    changes: dict[str, Any], release: Path, tiny_base: BaseModel
) -> None:
    outcome = behaviour(release, tiny_base, **changes)
    assert isinstance(outcome, Flagged)
    assert outcome.severity is Severity.WARNING


def test_figures_on_invented_requests_alone_are_a_warning(release: Path, tiny_base: BaseModel) -> None:
    def made(sha256: str | None) -> Outcome:
        training = {
            "method": "distillation", "data_sha256": "0" * 64, "samples": 1, "steps": 1, "seed": 0,
            "settings": {"invented": {"sha256": "a" * 64}}, "final_loss": 0.0, "versions": {},
        }  # fmt: skip
        lock(lambda content: content.update(training=training))(release, tiny_base)
        return behaviour(release, tiny_base, data_sha256=sha256)

    alone = made("a" * 64)
    assert isinstance(alone, Flagged)
    assert alone.severity is Severity.WARNING
    assert "invented requests alone" in alone.findings[0].message
    assert isinstance(made("b" * 64), Passed)


def compared(**changes: Any) -> dict[str, Any]:
    return COMPARISON.model_copy(update=changes).model_dump()


def test_an_equivalent_recovery_passes_with_its_verdict(release: Path, tiny_base: BaseModel) -> None:
    outcome = behaviour(release, tiny_base, comparison=compared())
    assert isinstance(outcome, Passed)
    assert outcome.measured["verdict"] == "equivalent"


@pytest.mark.parametrize(
    ("verdict", "severity"),
    [("re-reads", Severity.ERROR), ("degraded", Severity.WARNING), ("undecided", Severity.WARNING)],
)
def test_another_verdict_is_a_finding(
    verdict: str, severity: Severity, release: Path, tiny_base: BaseModel
) -> None:
    outcome = behaviour(release, tiny_base, comparison=compared(verdict=verdict, reason="as measured"))
    assert isinstance(outcome, Flagged)
    assert [one.message for one in outcome.findings] == [f"{verdict}: as measured"]
    assert outcome.severity is severity


def test_a_trained_adapter_needs_no_teacher(release: Path, tiny_base: BaseModel) -> None:
    outcome = behaviour(release, tiny_base, accuracy={"base": 0.5, "trained": 0.9}, agreement={})
    assert isinstance(outcome, Passed)


def full_run(folder: Path, base: BaseModel) -> Outcome:
    """ZL004 as the whole validation runs it; it needs no torch itself, only leave to read the weights."""
    validation = Validation.open(folder, Settings(base=str(base.folder)))
    return {r.code: r.outcome for r in run_checks(validation.context, CHECKS)}["ZL004"]


def test_the_recorded_weights_pass_and_others_do_not(release: Path, tiny_base: BaseModel) -> None:
    assert isinstance(full_run(release, tiny_base), Passed)
    lock(lambda content: content["base"].update(weights_sha256="0" * 64))(release, tiny_base)
    outcome = full_run(release, tiny_base)
    assert isinstance(outcome, Flagged)
    assert "not those" in outcome.findings[0].message


def test_a_commit_cannot_be_compared_with_a_folder(release: Path, tiny_base: BaseModel) -> None:
    lock(lambda content: content["base"].update(weights_sha256=None, revision="a" * 40))(release, tiny_base)
    assert isinstance(full_run(release, tiny_base), Skipped)


def test_the_static_part_does_not_claim_the_weights(release: Path, tiny_base: BaseModel) -> None:
    outcomes = {r.code: r.outcome for r in static_results(release, replace(tiny_base), CHECKS)}
    assert isinstance(outcomes["ZL004"], Skipped)
