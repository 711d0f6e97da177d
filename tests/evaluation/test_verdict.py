from zoo.evaluation.intervals import Interval
from zoo.evaluation.verdict import Judged, judge
from zoo.specs.comparison import Control, Estimate


def interval(low: float, value: float, high: float) -> Interval:
    return Interval(value=value, low=low, high=high)


GOOD = interval(0.92, 0.97, 0.99)
NEAR = interval(-0.04, -0.01, 0.02)
LOST = interval(-0.5, -0.4, -0.3)
POOR = interval(0.5, 0.6, 0.7)


def control(low: float, value: float, high: float) -> Control:
    share = Estimate(value=0.9, low=0.8, high=0.95)
    return Control(steps=60, score=share, agreement=share, gain=Estimate(value=value, low=low, high=high))


def verdict(
    difference: Interval,
    agreement: Interval = GOOD,
    *,
    settled: bool = True,
    margin: float = 0.05,
    beside: Control | None = None,
) -> Judged:
    return judge(
        metric="field_match",
        difference=difference,
        agreement=agreement,
        samples=80,
        margin=margin,
        settled=settled,
        control=beside,
    )


def test_a_loss_that_is_surely_below_the_margin_is_none() -> None:
    found = verdict(NEAR)
    assert found.verdict == "equivalent"
    assert "field match differs from the LoRA's by -0.010 [-0.040, +0.020]" in found.reason
    assert verdict(NEAR, margin=0.03).verdict == "undecided"  # the same figures, a stricter question


def test_too_few_samples_to_tell_is_its_own_verdict() -> None:
    found = verdict(interval(-0.2, 0.0, 0.2))
    assert found.verdict == "undecided"
    assert "80 held-out samples cannot tell" in found.reason


def test_a_sure_loss_is_a_degradation_with_its_size() -> None:
    found = verdict(LOST, POOR)
    assert found.verdict == "degraded"
    assert "degraded by 0.400 [0.300, 0.500] of field match" in found.reason
    assert "was not examined" in found.reason


def test_as_often_right_with_other_answers_is_not_equivalent() -> None:
    found = verdict(NEAR, POOR)
    assert found.verdict == "degraded"
    assert "on 0.600 [0.500, 0.700] of the samples only" in found.reason


def test_steps_that_ran_out_are_the_first_suspect() -> None:
    found = verdict(LOST, POOR, settled=False, beside=control(0.2, 0.35, 0.5))
    assert found.verdict == "degraded"
    assert "--recover-steps" in found.reason


def test_the_boundary_is_why_when_a_lora_on_the_whole_prompt_learns_the_same_data() -> None:
    found = verdict(LOST, POOR, beside=control(0.2, 0.35, 0.5))
    assert found.verdict == "re-reads"
    assert "does not suit an aLoRA" in found.reason


def test_a_control_that_fails_too_does_not_convict_the_boundary() -> None:
    for beside in (control(-0.1, 0.3, 0.7), control(0.01, 0.05, 0.1)):  # not sure; not much
        found = verdict(LOST, POOR, beside=beside)
        assert found.verdict == "degraded"
        assert "not shown to be why" in found.reason
