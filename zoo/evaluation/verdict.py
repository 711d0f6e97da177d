"""The verdict on a recovery: equivalent, degraded, degraded because of the boundary, or not to be told.

An aLoRA reads the base model's keys and values of the context, and can use only what they hold. Whether a
task needs more cannot be seen from a loss that does not fall: too few steps look the same. So there is a
control: a fresh LoRA that may adapt the whole prompt, trained on the same data for as many steps. Where it
succeeds and the recovery, which began with the LoRA's own weights, stood still, the boundary is the reason.
"""

from dataclasses import dataclass

from zoo.evaluation.intervals import Interval
from zoo.specs.comparison import Control, Estimate, Verdict

MARGIN = 0.05
REGAINED = 0.5  # of what the recovery lacks: so much must the control have, for the boundary to be why


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A verdict and its reason in a sentence."""

    verdict: Verdict
    reason: str


def judge(
    *,
    metric: str,
    difference: Interval | Estimate,
    agreement: Interval | Estimate,
    samples: int,
    margin: float = MARGIN,
    settled: bool = True,
    control: Control | None = None,
) -> Judged:
    """Judges a recovery.

    Equivalent: the loss of the metric is below the margin with its whole interval, and so much of the
    LoRA's answers may well be given again. Degraded: the metric is lower with the whole interval, or the
    agreement is below 1 - margin with the whole interval.

    Args:
        metric: its name.
        difference: of the metric, recovered minus LoRA, paired.
        agreement: share of answers that are the LoRA's.
        samples: held out.
        margin: how much may be lost.
        settled: whether the recovery ended because it came no closer, not because its steps were used up.
        control: see `Control`, where it was run.
    """
    named = metric.replace("_", " ")
    unlike = agreement.high < 1 - margin
    if difference.low > -margin and not unlike:
        return Judged(
            verdict="equivalent",
            reason=f"{named} differs from the LoRA's by {signed(difference)}: less than {margin:g} is lost",
        )
    if not unlike and difference.high >= 0:
        return Judged(
            verdict="undecided",
            reason=f"{named} differs from the LoRA's by {signed(difference)}: {samples:,} held-out samples "
            f"cannot tell a loss of {margin:g} from none",
        )
    if difference.high < 0:
        lost = Interval(value=-difference.value, low=-difference.high, high=-difference.low)
        said = f"degraded by {plain(lost)} of {named}"
    else:
        said = f"it answers as the LoRA on {plain(agreement)} of the samples only, though as often right"
    return _why(said, agreement, settled, control)


def _why(said: str, agreement: Interval | Estimate, settled: bool, control: Control | None) -> Judged:
    if not settled:
        more = "its steps were used up before it stood still: more may help (--recover-steps)"
        return Judged(verdict="degraded", reason=f"{said}; {more}")
    if control is None:
        return Judged(verdict="degraded", reason=f"{said}; whether the boundary is why was not examined")
    gained = signed(control.gain)
    if control.gain.low > 0 and control.gain.value >= REGAINED * (1 - agreement.value):
        return Judged(
            verdict="re-reads",
            reason=f"{said}; a fresh LoRA on the whole prompt agreed by {gained} more after {control.steps} "
            "steps on the same data: this task re-reads the context and does not suit an aLoRA",
        )
    return Judged(
        verdict="degraded",
        reason=f"{said}; a fresh LoRA on the whole prompt did not do much better ({gained} of agreement) in "
        f"{control.steps:,} steps: more steps or data may help, the boundary is not shown to be why",
    )


def signed(found: Interval | Estimate) -> str:
    """A difference and its interval, for people."""
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def plain(found: Interval | Estimate) -> str:
    """A share and its interval, for people."""
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
