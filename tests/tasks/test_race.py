"""What the race of recoveries against trainings from nothing calls met."""

import json
from typing import Any

import torch

from tests.benchmarks.recovery_ground import JUDGES, SAMPLES, Start, _spread, apart
from tests.benchmarks.train_recovery import beyond, met


def value(
    *, scratch: bool = True, real: bool = True, fewer: float = 5.0, made: float = 0.0
) -> dict[str, Any]:
    """What is measured of a task, as far as the verdict reads it."""
    return {
        "scratch": {"reached": scratch},
        "real": {"reached": real},
        "fewer_real": fewer,
        "auto_minus_real": {"value": made},
    }


def four(**other: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {**{f"task-{index}": value() for index in range(4)}, **other}


def test_every_task_in_reach_has_to_be_won_and_there_are_four_at_least() -> None:
    assert met(four())
    assert not met(four(slow=value(fewer=2.9)))
    assert not met(four(lost=value(real=False, fewer=5.0)))
    assert not met({name: one for name, one in four().items() if name != "task-3"})


def test_made_data_have_to_be_as_good_on_every_task() -> None:
    assert met(four(close=value(made=-0.03)))
    assert not met(four(worse=value(made=-0.031)))


def test_a_task_that_no_arm_reaches_is_named_and_has_no_ratio() -> None:
    hard = four(hard=value(scratch=False, real=False, fewer=1.0))

    assert beyond(hard) == ["hard"]
    assert met(hard)
    assert not met(four(hard=value(scratch=False, real=False, made=-0.2)))
    assert beyond(four(won=value(scratch=False))) == []


def test_the_samples_shown_have_every_value_of_a_few_arguments() -> None:
    rules = ["rare", *["common"] * 98, "odd"]
    lines = [json.dumps({"arguments": {"rule": rule}, "row": row}) for row, rule in enumerate(rules)]
    shown = [json.loads(line)["arguments"]["rule"] for line in _spread(lines)]

    assert len(shown) == SAMPLES
    assert [shown.count(rule) for rule in ("rare", "common", "odd")] == [4, 4, 4]
    rows = [json.loads(line)["row"] for line in _spread([json.dumps({"row": row}) for row in range(240)])]
    assert rows == [*range(0, 240, 20)]  # without arguments: from all over the data


def test_what_is_kept_of_a_calibration_is_judged_by_groups_from_all_over_the_data() -> None:
    """Data that were made are sorted by their answers: the last ones are all alike."""
    groups = [f"group {row // 3}" for row in range(3 * 200)]
    fitted, judging = apart(groups)
    assert sorted(fitted + judging) == list(range(600))
    assert not {groups[row] for row in fitted} & {groups[row] for row in judging}
    assert JUDGES <= len(judging) < JUDGES + 3
    assert min(judging) < 100 < 500 < max(judging)
    assert len(apart(["a", "b", "c", "d", "e", "f", "g", "h"])[1]) == 2


def test_starts_are_told_apart_by_their_weights() -> None:
    one, other = ({"a": torch.zeros(2), "b": torch.full((2,), last)} for last in (1.0, 2.0))
    assert Start(weights=one).sha256 == Start(weights=dict(reversed(one.items())), seconds=1.0).sha256
    assert Start(weights=one).sha256 != Start(weights=other).sha256
