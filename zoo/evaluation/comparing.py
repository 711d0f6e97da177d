"""A recovered adapter beside its LoRA and the base, on the same samples: with intervals, and by length."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Final

from zoo.evaluation import intervals
from zoo.evaluation.intervals import Interval
from zoo.evaluation.verdict import MARGIN, judge
from zoo.specs.comparison import BoundaryPoint, Comparison, Control, Estimate, LengthBin
from zoo.training.dataset import Encoded

BINS = 4
BIN_SAMPLES = 20  # of fewer the intervals say nothing
BASE: Final = "base"
LORA: Final = "lora"
RELABELLED: Final = "relabelled"
RECOVERED: Final = "recovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What each column answers to the same samples, as values that can be compared in pairs.

    Attributes:
        samples: that were asked.
        metric: the measure's name.
        scores: by column, a value between 0 and 1 a sample.
        agreement: by column, whether the answer is the LoRA's: 1 or 0 a sample.
    """

    samples: Sequence[Encoded]
    metric: str
    scores: Mapping[str, Sequence[float]]
    agreement: Mapping[str, Sequence[float]]

    @property
    def groups(self) -> list[str]:
        """Of each sample; one without a group is its own."""
        return [sample.group or str(place) for place, sample in enumerate(self.samples)]

    def difference(self, one: str, other: str) -> Interval:
        """Of the metric, paired."""
        return intervals.of_difference(self.scores[one], self.scores[other], self.groups)

    def part(self, rows: Sequence[int]) -> "Columns":
        """The same of some samples."""
        return Columns(
            samples=[self.samples[row] for row in rows],
            metric=self.metric,
            scores={name: [values[row] for row in rows] for name, values in self.scores.items()},
            agreement={name: [values[row] for row in rows] for name, values in self.agreement.items()},
        )


def compare(
    columns: Columns,
    *,
    boundary: Sequence[BoundaryPoint],
    stopped: str,
    settled: bool,
    margin: float = MARGIN,
    control: Control | None = None,
) -> Comparison:
    """Everything that was measured of a recovery, and its verdict.

    Args:
        columns: of base, LoRA, relabelled and recovered.
        boundary: the sweep.
        stopped: why the recovery ended.
        settled: whether it ended because it came no closer.
        margin: how much of the metric may be lost.
        control: see `zoo.specs.comparison.Control`.
    """
    scores = {name: estimate(columns, columns.scores[name]) for name in columns.scores}
    agreement = {name: estimate(columns, columns.agreement[name]) for name in columns.agreement}
    differences = {
        f"{RECOVERED}-{other}": _estimate(columns.difference(RECOVERED, other))
        for other in (LORA, RELABELLED, BASE)
    }
    judged = judge(
        metric=columns.metric,
        difference=differences[f"{RECOVERED}-{LORA}"],
        agreement=agreement[RECOVERED],
        samples=len(columns.samples),
        margin=margin,
        settled=settled,
        control=control,
    )
    return Comparison(
        metric=columns.metric,
        margin=margin,
        scores=scores,
        agreement=agreement,
        differences=differences,
        lengths=[_bin(columns.part(rows)) for rows in by_length(columns.samples)],
        boundary=list(boundary),
        stopped=stopped,
        control=control,
        verdict=judged.verdict,
        reason=judged.reason,
    )


def by_length(samples: Sequence[Encoded]) -> list[list[int]]:
    """Sample indices in up to four bins by the length of their context, about as many in each.

    Samples of one length stay together; no bin has fewer than 20 samples, but the only one.
    """
    order = sorted(range(len(samples)), key=lambda row: len(samples[row].prefix))
    count = max(1, min(BINS, len(samples) // BIN_SAMPLES))
    bins: list[list[int]] = [[]]
    for place, row in enumerate(order):
        last = bins[-1]
        full = len(last) >= BIN_SAMPLES and len(bins) < count and place >= len(bins) * len(order) // count
        if full and len(samples[row].prefix) > len(samples[last[-1]].prefix):
            bins.append([])
        bins[-1].append(row)
    if len(bins) > 1 and len(bins[-1]) < BIN_SAMPLES:
        short = bins.pop()
        bins[-1].extend(short)
    return bins


def estimate(columns: Columns, values: Sequence[float]) -> Estimate:
    """The mean of the columns' samples with its interval."""
    return _estimate(intervals.of_mean(values, columns.groups))


def control_of(columns: Columns, name: str, *, steps: int) -> Control:
    """What a control column says beside the recovered one.

    Args:
        columns: with a column of the control.
        name: its name.
        steps: that it ran.
    """
    gain = intervals.of_difference(columns.agreement[name], columns.agreement[RECOVERED], columns.groups)
    return Control(
        steps=steps,
        score=estimate(columns, columns.scores[name]),
        agreement=estimate(columns, columns.agreement[name]),
        gain=_estimate(gain),
    )


def _bin(columns: Columns) -> LengthBin:
    lengths = [len(sample.prefix) for sample in columns.samples]
    return LengthBin(
        shortest=min(lengths),
        longest=max(lengths),
        samples=len(lengths),
        scores={name: fmean(values) for name, values in columns.scores.items()},
        agreement={name: fmean(values) for name, values in columns.agreement.items()},
        difference=_estimate(columns.difference(RECOVERED, LORA)),
    )


def _estimate(found: Interval) -> Estimate:
    return Estimate(**asdict(found))
