"""What a conversion does to folded weights beyond the fold: project, truncate, grow, widen, in this order.

None of it is part of the exact fold, so each says what it did and what that cost, for people and the lock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoo.converters.alignment import AlignedPair
from zoo.converters.fold import Folded
from zoo.converters.keys import PREFIX
from zoo.converters.rank import A, B, check_growth, grow, rank_of
from zoo.converters.safe_lora import Factors, Projection, document, effects, measure, project
from zoo.converters.truncate import Cut, truncate
from zoo.converters.widen import widened
from zoo.errors import UsageError
from zoo.progress import Progress, silent
from zoo.specs.lock import ChangeRecord

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is asked for; by default nothing.

    Attributes:
        projection: of Safe LoRA; needs `pair`.
        pair: the models that define alignment.
        cut: the rank to truncate to.
        grow: the rank to grow to, exactly.
        outputs: whether output projections that the adapter leaves alone are added, exactly.
    """

    projection: Projection | None = None
    pair: AlignedPair | None = None
    cut: Cut | None = None
    grow: int | None = None
    outputs: bool = False

    @classmethod
    def parse(
        cls,
        *,
        truncate: str = "",
        grow: int | None = None,
        safe: str = "",
        aligned: str = "",
        unaligned: str = "",
        select: str = "",
        outputs: bool = False,
    ) -> "Changes":
        """Reads what the command line says.

        Args:
            truncate: a rank or a share of energy; empty for neither.
            grow: a rank.
            safe: `paper` or the projector's rank; empty for no Safe LoRA.
            aligned: for Safe LoRA: a folder, or a name on the Hub.
            unaligned: what that model was made from.
            select: which modules, see `Projection.parse`.
            outputs: see the class.

        Raises:
            UsageError: a value that cannot be read, or Safe LoRA without its two models.
            ZooError: one of the models cannot be had.
        """
        projection = Projection.parse(safe, select=select) if safe else None
        if (aligned or unaligned or select) and not projection:
            raise UsageError(
                "--aligned, --unaligned and --safe-modules are of Safe LoRA",
                hint="add --project-safe paper, or a rank",
            )
        return cls(
            projection=projection,
            pair=AlignedPair.open(aligned, unaligned) if projection else None,
            cut=Cut.parse(truncate) if truncate else None,
            grow=grow,
            outputs=outputs,
        )

    def check(self, rank: int) -> None:
        """What can be known before anything is folded.

        Args:
            rank: of the folded weights.

        Raises:
            UsageError: a rank that is not lower, or not higher, than that.
        """
        if self.cut:
            self.cut.check(rank)
        if self.grow and not (self.cut and self.cut.energy):
            check_growth(self.cut.rank if self.cut and self.cut.rank else rank, self.grow)

    def lines(self) -> list[str]:
        """What will be done, for the plan."""
        lines = []
        if self.projection and self.pair:
            lines.append(
                f"Safe LoRA, {self.projection.mode}, alignment of {self.pair.aligned.id} over "
                f"{self.pair.unaligned.id}: not exact, on purpose"
            )
        if self.cut:
            lines.append(f"truncate to {self.cut}: not exact, the error is said")
        if self.grow:
            lines.append(f"grow to rank {self.grow}: exact, fresh rows of A against zero columns of B")
        if self.outputs:
            lines.append("add output projections: exact, nothing until they are calibrated")
        return lines


def change(
    folded: Folded,
    changes: Changes,
    linears: Mapping[str, tuple[int, int]],
    *,
    progress: Progress = silent,
) -> Folded:
    """The weights after the changes, each of which is recorded in `Folded.changes`.

    Args:
        folded: weights in normal form.
        changes: what is asked for.
        linears: all linear modules of the base, `(out, in)` by path.
        progress: told about each module where base weights are read.

    Raises:
        UsageError: a rank that is not lower, or not higher, than that of the weights.
        RefusedError: ZV050 and ZV051, the models that define alignment do not fit.
    """
    if changes.projection and changes.pair:
        folded = _projected(folded, changes.projection, changes.pair, progress)
    if changes.cut:
        made = truncate(folded.weights, changes.cut)
        lines = [
            f"truncated to {changes.cut}: relative error {made.error:.2e} of the whole update, "
            f"{max(made.errors.values()):.2e} of the worst module"
        ]
        measured = {"to": str(changes.cut), **made.document()}
        folded = _with(folded, made.weights, ChangeRecord(kind="truncate", lines=lines, measured=measured))
    if changes.grow and changes.grow != folded.rank:
        record = ChangeRecord(
            kind="grow",
            lines=[f"grown from rank {folded.rank} to {changes.grow}, exact"],
            measured={"from": folded.rank, "to": changes.grow},
        )
        folded = _with(folded, grow(folded.weights, changes.grow), record)
    return widened(folded, linears) if changes.outputs else folded


def factors(weights: Mapping[str, "Tensor"]) -> dict[str, Factors]:
    """By module path, what gives the two factors of weights in normal form."""

    def loader(name: str) -> Factors:
        return lambda: (weights[name], weights[name.replace(A, B)])

    return {name.removeprefix(PREFIX).partition(A)[0]: loader(name) for name in weights if A in name}


def _projected(folded: Folded, projection: Projection, pair: AlignedPair, progress: Progress) -> Folded:
    found = measure(factors(folded.weights), pair, projection, progress=progress)
    chosen = projection.chosen({path: one.cosine for path, one in found.items()})
    lines = [f"Safe LoRA, {projection.mode}", *effects(found, chosen, projection)]
    record = ChangeRecord(
        kind="project-safe", lines=lines, measured=document(pair, projection, found, chosen)
    )
    return _with(folded, project(folded.weights, chosen, pair, projection), record)


def _with(folded: Folded, weights: Mapping[str, "Tensor"], record: ChangeRecord) -> Folded:
    return replace(folded, weights=weights, rank=rank_of(weights), changes=(*folded.changes, record))
