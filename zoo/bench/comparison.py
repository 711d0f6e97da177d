"""What a comparison found: a row an arm, and which of them did not train the same thing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zoo.bench.arms import Arm
from zoo.bench.job import Job
from zoo.bench.outcome import Outcome
from zoo.evaluation.intervals import Interval, of_difference, of_mean

# of the first loss, relative: no step has been taken, so all that may differ is rounding
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One arm that ran.

    Attributes:
        arm: which.
        outcome: what its process measured.
        metric: share of held-out samples that are answered as expected; None when nothing is held out.
        difference: of its metric from ours, on the same samples; None for ours.
        differs: why it did not train what ours trained; empty when it did.
    """

    arm: Arm
    outcome: Outcome
    metric: Interval | None
    difference: Interval | None
    differs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A finished comparison.

    Attributes:
        job: what was trained.
        rows: ours first.
        left_out: arms that were not run, and why.
        base: the metric without an adapter.
        samples: held-out samples.
    """

    job: Job
    rows: Sequence[Row]
    left_out: Mapping[str, str]
    base: Interval | None
    samples: int

    @property
    def exit_code(self) -> int:
        """1 when an arm that was to train the same did not: its time is then no comparison."""
        return int(any(row.differs and row.arm.alike for row in self.rows))

    def lines(self) -> list[str]:
        """The comparison for people: a table, then what has to be known of it."""
        ours = self.rows[0].outcome
        cuda = any(row.outcome.cuda_peak_mib is not None for row in self.rows)
        head = ["", "seconds", "x ours", "CPU s", "s a step", "peak MiB", *(["GPU MiB"] if cuda else []),
                "first loss", "last loss", "metric"]  # fmt: skip
        table = [head]
        for row in self.rows:
            found = row.outcome
            gpu = "" if found.cuda_peak_mib is None else f"{found.cuda_peak_mib:,.0f}"
            table.append([
                row.arm.title, f"{found.seconds:.1f}", f"{found.seconds / ours.seconds:.2f}",
                f"{found.cpu_seconds:.1f}",
                f"{found.seconds / max(1, found.steps):.3f}", f"{found.peak_mib:,.0f}",
                *([gpu] if cuda else []),
                f"{found.losses[0]:.4f}", f"{found.losses[-1]:.4f}", _said(row.metric),
            ])  # fmt: skip
        widths = [max(len(line[column]) for line in table) for column in range(len(head))]
        said = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in table
        ]
        said.append("")
        said += [f"{row.arm.name}: not the same training: {row.differs}" for row in self.rows if row.differs]
        said += [f"{name}: not run: {why}" for name, why in self.left_out.items()]
        if self.samples:
            said.append(f"metric: right answers on {self.samples} held-out samples; base {_said(self.base)}")
        else:
            said.append("metric: not measured, nothing is held out")
        said.append("seconds: from the base's files to the trained weights, prefixes included, imports not")
        return said

    def to_document(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return {
            "job": asdict(self.job),
            "samples": self.samples,
            "base": None if self.base is None else asdict(self.base),
            "arms": {
                row.arm.name: {
                    **asdict(row.outcome),
                    "times_ours": row.outcome.seconds / self.rows[0].outcome.seconds,
                    "metric": None if row.metric is None else asdict(row.metric),
                    "difference": None if row.difference is None else asdict(row.difference),
                    "differs": row.differs,
                }
                for row in self.rows
            },
            "not_run": dict(self.left_out),
        }


def compare(
    job: Job,
    outcomes: Sequence[tuple[Arm, Outcome]],
    right: Mapping[str, Sequence[float]],
    groups: Sequence[str],
    left_out: Mapping[str, str],
) -> Comparison:
    """Puts the arms side by side.

    Args:
        job: what was trained.
        outcomes: of each arm, ours first.
        right: by arm's name, 1.0 or 0.0 a held-out sample; and `base`.
        groups: of the held-out samples.
        left_out: arms that were not run, and why.
    """
    first = outcomes[0]
    rows = []
    for arm, outcome in outcomes:
        same = right.get(arm.name, ())
        difference = None
        if groups and arm is not first[0]:
            difference = of_difference(same, right[first[0].name], groups)
        rows.append(
            Row(
                arm=arm,
                outcome=outcome,
                metric=of_mean(same, groups) if groups else None,
                difference=difference,
                differs="" if arm is first[0] else _differs(arm, outcome, first[1], difference, job),
            )
        )
    base = of_mean(right["base"], groups) if groups else None
    return Comparison(job=job, rows=rows, left_out=left_out, base=base, samples=len(groups))


def _differs(arm: Arm, found: Outcome, ours: Outcome, difference: Interval | None, job: Job) -> str:
    if not arm.alike:
        return f"it has {arm.own}; {found.steps} steps against {ours.steps}"
    if found.start != ours.start:
        return "its initial weights are others"
    if found.steps != ours.steps:
        return f"{found.steps} steps against {ours.steps}"
    apart = abs(found.losses[0] - ours.losses[0])
    if not apart <= TOLERANCE[job.dtype] * abs(ours.losses[0]):
        return f"its first loss is {found.losses[0]:.5f} and ours {ours.losses[0]:.5f}, before any step"
    if difference is not None and (difference.low > 0 or difference.high < 0):
        return (
            f"its metric differs by {difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
        )
    return ""


def _said(found: Interval | None) -> str:
    return "" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
