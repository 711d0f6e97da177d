import math

import numpy as np
import pytest

from zoo.evaluation.intervals import of_difference, of_mean, paired_interval, wilson_interval


def alone(samples: int) -> list[str]:
    return [str(number) for number in range(samples)]


def test_the_share_interval_is_wilsons() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3: 81 of 263 gives 0.2553 to 0.3662
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    low, high = wilson_interval(1.0, 50)
    assert high == 1.0
    assert 0.9 < low < 1.0


@pytest.mark.parametrize(("share", "samples"), [(0.9, 40), (0.95, 400), (1.0, 30), (0.0, 30), (0.5, 1000)])
def test_the_share_interval_solves_wilsons_equation(share: float, samples: int) -> None:
    for bound in wilson_interval(share, samples):
        expected = 1.96**2 * bound * (1 - bound) / samples
        assert math.isclose((share - bound) ** 2, expected, rel_tol=1e-9, abs_tol=1e-15)


def test_the_paired_interval_is_newcombes_method_10() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 2635, table II: 36, 12, 2, 0 gives 0.0569 to 0.3404
    found = paired_interval(both=36, first=12, second=2, samples=50)
    assert found == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_interval(both=36, first=2, second=12, samples=50)
    assert (-high, -low) == pytest.approx(found)


def test_no_difference_among_few_samples_is_no_proof_of_equality() -> None:
    few = of_difference([1.0] * 12, [1.0] * 12, alone(12))
    many = of_difference([1.0] * 400, [1.0] * 400, alone(400))
    assert few.value == many.value == 0
    assert few.low < -0.2
    assert -0.02 < many.low < 0


def test_pairing_narrows_what_two_separate_intervals_leave_open() -> None:
    one = [1.0] * 90 + [0.0] * 10
    other = [1.0] * 88 + [0.0] * 12
    paired = of_difference(one, other, alone(100))
    singles = [of_mean(values, alone(100)) for values in (one, other)]
    assert paired.high - paired.low < 0.7 * sum(one.high - one.low for one in singles)
    unlike = of_difference(one, other[::-1], alone(100))  # the same shares, errors on other samples
    assert unlike.value == pytest.approx(paired.value)
    assert unlike.high - unlike.low > 1.5 * (paired.high - paired.low)


def test_samples_of_one_group_count_for_less() -> None:
    values = [float(number // 10 % 2) for number in range(200)]  # ten alike in each group
    grouped = of_mean(values, [str(number // 10) for number in range(200)])
    separate = of_mean(values, alone(200))
    assert grouped.value == separate.value
    assert grouped.high - grouped.low > 2 * (separate.high - separate.low)


def test_the_interval_is_the_same_every_time() -> None:
    values = [0.2, 0.9, 0.4, 1.0, 0.0, 0.7]
    assert of_mean(values, alone(6)) == of_mean(values, alone(6))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    held = 0
    for trial in range(100):
        one = (random.random(60) < 0.9).astype(float)
        other = np.where(random.random(60) < 0.85, one, (random.random(60) < 0.5).astype(float))
        truth = 0.9 - (0.85 * 0.9 + 0.15 * 0.5)
        found = of_difference(one.tolist(), other.tolist(), alone(60), seed=trial)
        held += found.low <= truth <= found.high
    assert held >= 92  # of 95 expected: two standard deviations of a binomial share are four


def test_strata_count_alike_whatever_their_size() -> None:
    values = [1.0] * 90 + [0.0] * 5 + [1.0] * 5
    strata = ["common"] * 90 + ["rare"] * 10
    found = of_mean(values, alone(100), strata=strata)
    assert found.value == pytest.approx((1.0 + 0.5) / 2)
    assert of_mean(values, alone(100)).value == 0.95
    # the rare answer's ten samples decide how well the mean is known
    assert found.high - found.low > 3 * (of_mean(values, alone(100)).high - of_mean(values, alone(100)).low)
    assert of_mean(values, alone(100), strata=["one"] * 100) == of_mean(values, alone(100))


def test_strata_of_a_difference_are_put_together_by_mover() -> None:
    one = [1.0] * 20 + [1.0] * 15 + [0.0] * 5
    other = [1.0] * 18 + [0.0] * 2 + [1.0] * 10 + [0.0] * 10
    strata = ["a"] * 20 + ["b"] * 20
    found = of_difference(one, other, alone(40), strata=strata)
    assert found.value == pytest.approx((0.1 + 0.25) / 2)
    parts = [
        paired_interval(both=18, first=2, second=0, samples=20),
        paired_interval(both=10, first=5, second=0, samples=20),
    ]
    below = math.hypot(0.1 - parts[0][0], 0.25 - parts[1][0]) / 2
    assert found.low <= found.value - below + 1e-12


def test_balanced_accuracys_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = 0
    for trial in range(100):
        strata = ["yes"] * 70 + ["no"] * 20
        values = np.concatenate([random.random(70) < 0.95, random.random(20) < 0.7]).astype(float)
        found = of_mean(values.tolist(), alone(90), strata=strata, seed=trial)
        held += found.low <= (0.95 + 0.7) / 2 <= found.high
    assert held >= 91


def test_a_draw_without_a_rare_stratum_does_not_spoil_the_interval() -> None:
    found = of_mean([1.0] * 30 + [0.0], alone(31), strata=["a"] * 30 + ["b"])
    assert found.value == 0.5
    assert 0 <= found.low < 0.5 < found.high <= 1
