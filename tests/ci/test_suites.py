"""ZG006 to ZG008: the verdict on made-up answers, so that each way it can go is seen."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.ci.test_policy import TODAY, outcome
from tests.releases import OUTCOMES, failed, report_on, write_release
from zoo.adapter import AdapterRepo
from zoo.ci import suites
from zoo.ci.judgement import Judge
from zoo.ci.published import Published
from zoo.errors import NotFoundError
from zoo.evaluation.asking import Asked
from zoo.provenance import sha256_file
from zoo.report import Flagged, NotApplicable, Passed, Report, Skipped
from zoo.specs.lock import BehaviourRecord
from zoo.specs.policy import Policy
from zoo.validators.check import Context

SAMPLES = 100


def answers(right: int, *, samples: int = SAMPLES, formed: int = 100) -> Asked:
    """So many right of each hundred, half of them yes and half no."""
    good = [float((n // 2 * 2) % samples < right) for n in range(samples)]
    strata = ["yes" if n % 2 else "no" for n in range(samples)]
    return Asked(
        metric="balanced_accuracy",
        scores=good,
        trivial=[float(one == "yes") for one in strata],
        well_formed=[float(n < formed) for n in range(samples)],
        strata=strata,
        groups=[str(n) for n in range(samples)],
    )


@dataclass
class Stage:
    """A release, its suite, and what it and the published version are made to answer."""

    folder: Path
    data: Path
    own: Asked = field(default_factory=lambda: answers(90))
    before: Asked = field(default_factory=lambda: answers(90))
    asked: list[str] = field(default_factory=list)

    def suite(self, **more: Any) -> dict[str, Any]:
        return {"name": "relevance", "data": str(self.data), "sha256": sha256_file(self.data), **more}

    def judged(
        self, report: Report | None = None, *, published: bool = True, suite: dict[str, Any] | None = None,
        **policy: Any,
    ) -> Report:  # fmt: skip
        def find(name: str) -> Published:
            if not published:
                raise NotFoundError(f"{name} has no published version")
            return Published(where=f"{name}@v1.0.0", behaviour=BehaviourRecord())

        wanted = Policy.model_validate({"suites": [self.suite(**(suite or {}))], **policy})
        repo = AdapterRepo.open(self.folder)
        context = Context(repo=repo)
        judge = Judge(policy=wanted, today=TODAY, published=find)
        return judge.judge(report or report_on(self.folder), repo, context)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    data = tmp_path / "relevance.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"q {n}"}], "answer": "yes" if n % 2 else "no"}
        for n in range(SAMPLES)
    ]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = Stage(folder=write_release(tmp_path / "release"), data=data)

    def own(bench: suites.Bench, context: Context) -> Asked:
        made.asked.append("own")
        return made.own

    def before(bench: suites.Bench, context: Context) -> Asked:
        made.asked.append("before")
        return made.before

    monkeypatch.setattr(suites.Bench, "own", own)
    monkeypatch.setattr(suites.Bench, "before", before)
    return made


REGRESSION = {"published": "org/{name}"}


@pytest.mark.parametrize(
    ("right", "demanded", "kind"),
    [
        (90, {"at_least": 0.8}, Passed),
        (90, {"at_least": 0.85}, Skipped),  # so many samples cannot tell
        (60, {"at_least": 0.8}, Flagged),
        (90, {"above_trivial": 0.25}, Passed),
        (50, {}, Flagged),  # a coin: above nothing
        (50, {"above_trivial": None}, Passed),
    ],
)
def test_a_bound_is_kept_or_broken_by_the_whole_interval(
    stage: Stage, right: int, demanded: dict[str, Any], kind: type
) -> None:
    stage.own = answers(right) if right > 50 else answers(0)
    said = outcome(stage.judged(suite=demanded), "ZG007")
    assert isinstance(said, kind), said
    if isinstance(said, Skipped):
        assert "could) that it is at least 0.85" in said.reason
        assert stage.judged(suite=demanded).status() == "incomplete"


def test_replies_that_no_program_can_read_are_red(stage: Stage) -> None:
    stage.own = answers(90, formed=60)
    assert isinstance(outcome(stage.judged(suite={"structured": 0.9}), "ZG007"), Flagged)
    stage.own = answers(90)
    assert isinstance(outcome(stage.judged(suite={"structured": 0.9}), "ZG007"), Passed)


@pytest.mark.parametrize(
    ("own", "before", "regression", "kind"),
    [
        (90, 90, {}, Passed),
        (90, 80, {}, Passed),
        (80, 90, {}, Flagged),
        (80, 90, {"accuracy": 0.1}, Passed),
        (88, 90, {}, Passed),  # within chance
        (88, 90, {"margin": 0.02}, Skipped),  # but not excluded
        (90, 90, {"margin": 0.1}, Passed),
    ],
)
def test_the_published_version_answers_the_same_samples(
    stage: Stage, own: int, before: int, regression: dict[str, float], kind: type
) -> None:
    stage.own, stage.before = answers(own), answers(before)
    found = stage.judged(regression={**REGRESSION, **regression})
    assert isinstance(outcome(found, "ZG008"), kind), outcome(found, "ZG008")
    assert isinstance(outcome(found, "ZG004"), NotApplicable)  # what the locks say is not asked for then


def test_pairs_show_what_two_figures_would_hide(stage: Stage) -> None:
    """Eight of a hundred lost and none gained: two separate intervals overlap widely."""
    from zoo.evaluation.intervals import of_mean

    stage.own, stage.before = answers(82), answers(90)
    single = [of_mean(one.scores, one.groups, strata=one.strata) for one in (stage.own, stage.before)]
    assert single[0].high > single[1].low
    assert isinstance(outcome(stage.judged(regression=REGRESSION), "ZG008"), Flagged)


def test_the_first_version_is_compared_with_nothing(stage: Stage) -> None:
    found = stage.judged(published=False, regression=REGRESSION)
    assert isinstance(outcome(found, "ZG008"), NotApplicable)
    assert "before" not in stage.asked


@pytest.mark.parametrize("change", ["one answer", "one line more"])
def test_another_sample_is_red_and_nothing_is_asked(stage: Stage, change: str) -> None:
    bound = stage.suite()["sha256"]
    text = stage.data.read_text()
    stage.data.write_text(text.replace('"yes"', '"no"', 1) if change == "one answer" else text * 2)
    found = stage.judged(suite={"sha256": bound})
    assert isinstance(outcome(found, "ZG006"), Flagged)
    assert isinstance(outcome(found, "ZG007"), Skipped)
    assert found.status() == "failed"
    assert not stage.asked


def test_too_few_of_an_answer_and_what_was_trained_on_are_red(stage: Stage) -> None:
    assert isinstance(outcome(stage.judged(suite={"per_answer": 50}), "ZG006"), Passed)
    assert isinstance(outcome(stage.judged(suite={"per_answer": 51}), "ZG006"), Flagged)
    path = stage.folder / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["training"]["data_sha256"] = sha256_file(stage.data)
    path.write_text(json.dumps(lock))
    said = outcome(stage.judged(), "ZG006")
    assert isinstance(said, Flagged)
    assert "trained on" in said.findings[0].message


def test_samples_are_for_the_adapter_that_they_name(stage: Stage) -> None:
    lines = [json.loads(text) for text in stage.data.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["adapter"] = "relevance" if number < 40 else "other"
    stage.data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = outcome(stage.judged(), "ZG006")
    assert isinstance(said, Passed)
    assert said.measured["relevance samples"] == 40


def test_no_suite_for_an_adapter_is_no_pass_where_one_is_required(stage: Stage) -> None:
    other = {"adapters": ["other*"]}
    assert stage.judged(suite=other).status() == "passed"
    assert isinstance(outcome(stage.judged(suite=other, required=["ZG007"]), "ZG001"), Flagged)
    assert isinstance(outcome(stage.judged(required=["ZG007"]), "ZG001"), Passed)


def test_an_adapter_that_does_not_load_is_not_asked(stage: Stage) -> None:
    outcomes = [*OUTCOMES, ("ZP001", "PEFT loads it", Flagged(findings=failed("ZB001")[-1][2].findings))]  # type: ignore[union-attr]
    found = stage.judged(report_on(stage.folder, outcomes))
    assert isinstance(outcome(found, "ZG007"), Skipped)
    assert not stage.asked


def test_an_author_does_not_allow_himself_what_the_policy_demands(stage: Stage) -> None:
    from zoo.specs.release import GatePolicy

    own = GatePolicy(allowed_skips={"ZG007": "I do not feel like it"})
    found = stage.judged(report_on(stage.folder, allowed=own), suite={"at_least": 0.85})
    assert found.status() == "incomplete"


def test_measured_values_name_their_suite(stage: Stage) -> None:
    said = outcome(stage.judged(), "ZG007")
    assert isinstance(said, Passed)
    assert said.measured["relevance balanced_accuracy"] == pytest.approx(0.9)
    low, high = (said.measured[f"relevance balanced_accuracy_{end}"] for end in ("low", "high"))
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < 0.9 < high
