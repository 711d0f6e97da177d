"""Safe LoRA: how far each module's update lies in the directions of alignment, and moving it there.

The paper's C is no projector: with V the aligned weight less the unaligned one, C = V Vᵀ / ‖V‖_F has the
eigenvalues σ² / ‖V‖_F, in units of a weight. Its cosine does not see that; the update it leaves behind is
mostly a very small one. A true projector onto V's leading left singular vectors is offered beside it.
Source: Hsu et al., arXiv 2405.16833, section 3; IBM/SafeLoRA@d81fda1, model.py (`projected_weighted`).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.converters.alignment import AlignedPair, Difference
from zoo.converters.canonical import inner, one_thread
from zoo.converters.keys import PREFIX
from zoo.converters.rank import A, B
from zoo.errors import UsageError
from zoo.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.5  # the paper's code's default
CAVEAT = "a cosine says nothing of behaviour: measure refusals and the task before and after"
DIGITS = 5  # to which that code rounds the cosine before it compares

Factors = Callable[[], "tuple[Tensor, Tensor]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What to do with which modules.

    Attributes:
        rank: of the true projector; None for the paper's C.
        threshold: modules whose cosine is at most this are changed.
        number: if given, this many modules of lowest cosine are changed instead.
    """

    rank: int | None = None
    threshold: float = THRESHOLD
    number: int | None = None

    @classmethod
    def parse(cls, mode: str, *, select: str = "") -> "Projection":
        """Reads `paper`, or a rank such as `64` for the true projector.

        Args:
            mode: which map.
            select: a cosine such as `0.35`, or a number of modules such as `10`; empty for the default.

        Raises:
            UsageError: it is neither.
        """
        number = int(select) if select.isdecimal() else None
        try:
            threshold = float(select) if select and number is None else THRESHOLD
        except ValueError:
            threshold = math.nan
        if not -1 <= threshold <= 1 or number == 0:
            raise UsageError(
                f"{select[:40]!r} selects no modules", hint="a cosine such as 0.5, or a number such as 10"
            )
        if mode != "paper" and not (mode.isdecimal() and int(mode) > 0):
            raise UsageError(
                f"no projection {mode[:40]!r}", hint="paper, or the rank of a true projector, such as 64"
            )
        rank = None if mode == "paper" else int(mode)
        return cls(rank=rank, threshold=threshold, number=number)

    @property
    def mode(self) -> str:
        """The map's name, as reports and locks call it."""
        return "paper" if self.rank is None else f"projector of rank {self.rank}"

    def chosen(self, cosines: Mapping[str, float]) -> list[str]:
        """The modules to change, in order of cosine."""
        order = sorted(cosines, key=lambda path: (cosines[path], path))
        if self.number is not None:
            return order[: self.number]
        return [path for path in order if round(cosines[path], DIGITS) <= self.threshold]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """One module's update against alignment.

    Attributes:
        cosine: between the update and what the map makes of it; 0 where nothing is left of it,
            1 where the update itself is zero.
        ratio: norm of what the map makes of it over the update's own; it is what changing the module leaves.
        energy: share of V's squared norm that the projector's directions hold; None for the paper's map.
    """

    cosine: float
    ratio: float
    energy: float | None = None


def measure(
    modules: Mapping[str, Factors], pair: AlignedPair, projection: Projection, *, progress: Progress = silent
) -> dict[str, Alignment]:
    """Measures every module, one after another.

    Args:
        modules: by module path, what loads float `[rank, in]` and `[out, rank]`.
        pair: the models that define alignment.
        projection: whose map is measured.
        progress: told about each module.

    Raises:
        RefusedError: ZV050 and ZV051, see `AlignedPair.difference`.
    """
    found = {}
    for done, (path, load) in enumerate(modules.items(), start=1):
        a, b = load()
        mapped, energy = mapped_b(b, pair.difference(path, (b.shape[0], a.shape[1])), projection)
        found[path] = _compared(a, b, mapped, energy)
        progress("safety", done=done, total=len(modules))
    return found


def project(
    weights: Mapping[str, "Tensor"], paths: Iterable[str], pair: AlignedPair, projection: Projection
) -> dict[str, "Tensor"]:
    """Weights in normal form with the map applied to lora_B of some modules; A and the rank stay.

    Args:
        weights: by PEFT file key.
        paths: of the modules to change.
        pair: the models that define alignment.
        projection: whose map is applied.
    """
    changed = dict(weights)
    for path in paths:
        a, b = weights[f"{PREFIX}{path}{A}weight"], weights[f"{PREFIX}{path}{B}weight"]
        difference = pair.difference(path, (b.shape[0], a.shape[1]))
        changed[f"{PREFIX}{path}{B}weight"] = mapped_b(b, difference, projection)[0].to(b.dtype)
    return changed


def mapped_b(b: "Tensor", difference: Difference, projection: Projection) -> "tuple[Tensor, float | None]":
    """`C @ b` as two thin products, float32 `[out, rank]`, and the projector's energy.

    Where alignment changed nothing (V = 0), C is 0/0: the paper's code gives NaN, this gives zero.
    """
    with one_thread():
        wide = b.float()
        if projection.rank is not None:
            basis, energy = difference.leading(projection.rank)
            return basis @ (basis.T @ wide), energy
        if not difference.norm:
            return wide * 0, None
        return difference.times(difference.transposed_times(wide)) / difference.norm, None


def effects(found: Mapping[str, Alignment], chosen: Iterable[str], projection: Projection) -> list[str]:
    """What the map does to the chosen modules, for people: the numbers, and what is known of such numbers."""
    kept = sorted(found[path].ratio for path in chosen)
    if not kept:
        return [f"no module's cosine is at most {projection.threshold:g}: nothing is to be changed", CAVEAT]
    middle = kept[len(kept) // 2]
    lines = [
        f"{len(kept)} of {len(found)} modules: the update's norm becomes {kept[0]:.3g} to {kept[-1]:.3g} of "
        f"what it was (median {middle:.3g})"
    ]
    if projection.rank is None:
        lines.append(
            "C is no projector: its eigenvalues are σ²/‖V‖_F, it scales these modules' updates, mostly "
            "to almost nothing; expect the loss of the task that pruning them would cost"
        )
    elif middle > 0.99:
        lines.append("these directions hold almost all of the update: the projector hardly changes it")
    return [*lines, CAVEAT]


def document(
    pair: AlignedPair, projection: Projection, found: Mapping[str, Alignment], chosen: Iterable[str]
) -> dict[str, Any]:
    """What was measured, and with which models, as plain data."""
    changed = set(chosen)
    return {
        "mode": projection.mode,
        "threshold": None if projection.number is not None else projection.threshold,
        "number": projection.number,
        "aligned": {"id": pair.aligned.id, "revision": pair.aligned.revision or None},
        "unaligned": {"id": pair.unaligned.id, "revision": pair.unaligned.revision or None},
        "modules": {
            path: {
                "cosine": one.cosine,
                "ratio": one.ratio,
                **({} if one.energy is None else {"energy": one.energy}),
                "below": path in changed,
            }
            for path, one in found.items()
        },
    }


def _compared(a: "Tensor", b: "Tensor", mapped: "Tensor", energy: float | None) -> Alignment:
    size, made = inner(a, b, a, b) ** 0.5, max(inner(a, mapped, a, mapped), 0.0) ** 0.5
    if not size:
        return Alignment(cosine=1.0, ratio=1.0, energy=energy)
    cosine = inner(a, b, a, mapped) / (size * made) if made else 0.0
    return Alignment(cosine=cosine, ratio=made / size, energy=energy)
