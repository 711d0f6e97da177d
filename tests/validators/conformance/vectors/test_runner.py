"""What the runner says of engines that are right, wrong, wrong as known, silent or broken."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from zoo.activation import LLAMA_SERVER, PEFT, VLLM, Convention
from zoo.errors import EngineError
from zoo.validators.conformance.engines.refusal import EngineRefusesError
from zoo.validators.conformance.vectors.case import Case, Group, read_groups
from zoo.validators.conformance.vectors.compare import LogProbs
from zoo.validators.conformance.vectors.oracle import Oracle
from zoo.validators.conformance.vectors.outcome import (
    Agrees,
    Crashed,
    FailsAnew,
    FailsAsKnown,
    NotApplicable,
    Unanswered,
)
from zoo.validators.conformance.vectors.rules import Deviation, Plan, by_convention, by_rule
from zoo.validators.conformance.vectors.runner import run_vectors
from zoo.validators.conformance.vectors.table import render_json, render_table

GROUPS = tuple(group for group in read_groups() if group.name == "occurrences")
COUNT = len(GROUPS[0].tests)
ORACLE = Oracle()

Change = Callable[[list[LogProbs]], Sequence[LogProbs]]


class Fake:
    """An engine that follows a rule and tells what `change` makes of its answers."""

    def __init__(
        self,
        rule: Callable[[Case], tuple[Plan, ...]] = by_rule,
        *,
        convention: Convention = PEFT,
        deviations: Sequence[Deviation] = (),
        change: Change = list,
        lacking: str = "",
    ) -> None:
        self.convention, self.deviations = convention, deviations
        self._rule, self._change, self._lacking = rule, change, lacking

    def lacks(self, case: Case) -> str:
        return self._lacking

    def log_probs(self, case: Case) -> Sequence[LogProbs]:
        answers: list[LogProbs] = []
        for row, plan in zip(case.rows, self._rule(case), strict=True):
            last = ORACLE.log_probs(row.ids, plan)[-1]
            answers.append({len(row.ids) - 1: dict(enumerate(last.tolist()))})
        return self._change(answers)


def early(case: Case) -> tuple[Plan, ...]:
    return by_convention(case, LLAMA_SERVER)


def run(engine: Any, groups: tuple[Group, ...] = GROUPS) -> Any:
    return run_vectors(engine, groups, oracle=ORACLE)


def test_an_engine_that_follows_the_rule_agrees() -> None:
    report = run(Fake())
    assert report.ids(Agrees) == [case.id for case in GROUPS[0].tests]
    assert (report.status(), report.exit_code()) == ("agrees", 0)


def test_a_deviation_is_news_unless_it_is_the_conventions() -> None:
    anew, known = run(Fake(early)), run(Fake(early, convention=LLAMA_SERVER))
    assert anew.ids(FailsAnew) == known.ids(FailsAsKnown) != []
    assert (anew.status(), anew.exit_code()) == ("fails", 1)
    assert (known.status(), known.exit_code(), known.exit_code(strict=True)) == ("known", 0, 1)


def test_another_deviation_than_the_known_one_is_news() -> None:
    report = run(Fake(lambda case: by_convention(case, VLLM_PLAIN), convention=LLAMA_SERVER))
    assert report.ids(FailsAnew)
    assert report.exit_code() == 1


VLLM_PLAIN = Convention(engine="x", versions="x", behaviour=VLLM.behaviour.PLAIN_LORA)


def test_a_known_deviation_that_does_not_show_is_said() -> None:
    report = run(Fake(convention=LLAMA_SERVER))
    assert len(report.news()) == len(run(Fake(early)).ids(FailsAnew))
    assert report.status() == "agrees"
    assert report.exit_code(strict=True) == 1
    assert "known deviation not seen" in render_table(report)


def test_nothing_run_is_incomplete() -> None:
    report = run(Fake(lacking="it has no rows"))
    assert len(report.ids(NotApplicable)) == COUNT
    assert (report.status(), report.exit_code()) == ("incomplete", 3)
    assert run(Fake(), ()).exit_code() == 3
    assert f"{COUNT} vectors: it has no rows" in render_table(report)


def test_an_engine_that_fails_gives_no_verdict() -> None:
    def dies(answers: list[LogProbs]) -> list[LogProbs]:
        raise EngineError("the server died")

    report = run(Fake(change=dies))
    assert len(report.ids(Unanswered)) == COUNT
    assert report.exit_code() == 3


def test_what_breaks_beside_the_engine_is_a_crash_and_the_others_still_run() -> None:
    seen: list[int] = []

    def breaks_once(answers: list[LogProbs]) -> list[LogProbs]:
        seen.append(1)
        if len(seen) == 1:
            raise KeyError("a field that is not there")
        return answers

    report = run(Fake(change=breaks_once))
    assert len(report.ids(Crashed)) == 1
    assert len(report.ids(Agrees)) == COUNT - 1
    assert report.exit_code() == 4


def test_a_refusal_is_known_only_where_the_convention_says_so() -> None:
    def refuses(answers: list[LogProbs]) -> list[LogProbs]:
        raise EngineRefusesError("no aLoRA here")

    assert len(run(Fake(change=refuses, convention=VLLM)).ids(FailsAsKnown)) == COUNT
    assert len(run(Fake(change=refuses)).ids(FailsAnew)) == COUNT
    taken = run(Fake(convention=VLLM))
    assert len(taken.news()) == COUNT


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_agrees(value: float) -> None:
    report = run(Fake(change=lambda answers: [{at: {**one, 0: value} for at, one in answers[0].items()}]))
    assert len(report.ids(FailsAnew)) == COUNT
    json.loads(render_json(report))


def best(answers: list[LogProbs], count: int, *, skip: int = 0) -> list[LogProbs]:
    return [
        {
            at: dict(sorted(one.items(), key=lambda item: -item[1])[skip : skip + count])
            for at, one in row.items()
        }
        for row in answers
    ]


def test_the_twenty_likeliest_tokens_suffice_and_fewer_do_not() -> None:
    assert len(run(Fake(change=lambda answers: best(answers, 20))).ids(Agrees)) == COUNT
    assert len(run(Fake(change=lambda answers: best(answers, 19))).ids(Unanswered)) == COUNT


def test_a_token_that_is_kept_back_is_noticed() -> None:
    assert len(run(Fake(change=lambda answers: best(answers, 25, skip=1))).ids(FailsAnew)) == COUNT


@pytest.mark.parametrize(
    "change",
    [lambda answers: [], lambda answers: [{0: {}}], lambda answers: answers * 2],
    ids=["no rows", "no tokens", "rows twice"],
)
def test_an_answer_of_another_shape_is_none(change: Change) -> None:
    groups = tuple(group for group in read_groups() if group.name == "absent")
    assert len(run(Fake(change=change), groups).ids(Unanswered)) == len(groups[0].tests)


def test_the_tolerance_can_be_widened_but_stays_the_judge() -> None:
    def off(answers: list[LogProbs]) -> list[LogProbs]:
        return [{at: {t: v + 0.01 for t, v in one.items()} for at, one in row.items()} for row in answers]

    assert run_vectors(Fake(change=off), GROUPS, oracle=ORACLE).exit_code() == 1
    assert run_vectors(Fake(change=off), GROUPS, oracle=ORACLE, tolerance=0.02).exit_code() == 0
