from dataclasses import replace

import pytest

from zoo.training.course import Optimised
from zoo.training.distil_settings import DistilSettings

SETTINGS = DistilSettings.of(steps=10, patience=2)  # it looks at every fifth step


def ended(*, steps: int, best_step: int, patience: int = 2) -> tuple[bool, str]:
    settings = replace(SETTINGS, recipe=replace(SETTINGS.recipe, patience=patience))
    looks = [(step, {"divergence": 1.0}) for step in range(0, steps + 1, 5)]
    ending = settings.ending(
        Optimised(losses=[1.0] * steps, best_step=best_step, best_score=-1.0, looks=looks)
    )
    return ending.settled, ending.said


def test_patience_that_ends_at_the_last_step_has_settled_it() -> None:
    said = "at step 10 of 10, no closer in 2 looks at unseen prompts; the start was kept"
    assert ended(steps=10, best_step=0) == (True, said)


@pytest.mark.parametrize(("best_step", "patience"), [(5, 2), (10, 2), (0, 3), (0, 0)])
def test_steps_that_are_used_up_before_patience_is_settle_nothing(best_step: int, patience: int) -> None:
    settled, said = ended(steps=10, best_step=best_step, patience=patience)
    assert not settled
    assert said.startswith("all 10 steps were run; ")


def test_an_early_end_says_where() -> None:
    settings = DistilSettings.of(steps=50, patience=2)
    looks = [(step, {"divergence": 1.0}) for step in (0, 5, 10, 15)]
    ending = settings.ending(Optimised(losses=[1.0] * 15, best_step=5, best_score=-1.0, looks=looks))
    assert (ending.settled, ending.said) == (
        True, "at step 15 of 50, no closer in 2 looks at unseen prompts; step 5 was kept",
    )  # fmt: skip


@pytest.mark.parametrize(("left", "share"), [(0.01, 0.3), (0.5, 0.5), (1.0, 1.0), (1.2, 1.0)])
def test_steps_are_the_smaller_the_closer_a_calibration_came(left: float, share: float) -> None:
    plain, calibrated = (DistilSettings.of(calibrate=on) for on in (False, True))
    assert calibrated.calibrate
    assert calibrated.recipe == plain.recipe  # which the control trains with
    found = calibrated.behind(left).recipe.learning_rate
    assert found == pytest.approx(share * plain.recipe.learning_rate)
    assert calibrated.behind(left + 1e-6).recipe.learning_rate == found


def test_steps_of_a_given_size_are_taken_behind_a_calibration_too() -> None:
    given = DistilSettings.of(calibrate=True, learning_rate=5e-4)
    assert given.behind(0.01).recipe.learning_rate == 5e-4
