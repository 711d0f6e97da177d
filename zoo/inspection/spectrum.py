"""The singular values of an adapter's updates, module by module and layer by layer."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.converters.canonical import canonical
from zoo.inspection.factors import Load
from zoo.progress import Progress, silent

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 16  # of a sparkline, in characters
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
OUTSIDE = -1  # the layer of modules in none, such as lm_head


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """One module's update.

    Attributes:
        rank: of its factors.
        values: singular values, descending; those that are rounding are left out.
        effective_rank: see `Canonical.effective_rank`.
    """

    rank: int
    values: tuple[float, ...]
    effective_rank: float

    @property
    def norm(self) -> float:
        """Frobenius norm."""
        return math.sqrt(sum(value * value for value in self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The adapted modules of one layer together.

    Attributes:
        number: `OUTSIDE` for modules in none.
        modules: how many.
        norm: root of the sum of their squared Frobenius norms.
        largest: the largest singular value.
        effective_rank: mean over the modules.
        shape: mean over the modules of their singular values over the largest, padded with zeros.
    """

    number: int
    modules: int
    norm: float
    largest: float
    effective_rank: float
    shape: tuple[float, ...]

    @property
    def name(self) -> str:
        """For people."""
        return "outside" if self.number == OUTSIDE else f"layer {self.number}"


def spectra(modules: Mapping[str, Load], *, progress: Progress = silent) -> dict[str, Spectrum]:
    """The spectrum of each module; never more than one is in memory.

    Args:
        modules: what loads the factors, by module path.
        progress: told about each module.
    """
    found = {}
    for done, (path, load) in enumerate(modules.items(), start=1):
        low = load()
        form = canonical(low.a, low.b, low.scale)
        found[path] = Spectrum(
            rank=low.a.shape[0], values=tuple(form.s.tolist()), effective_rank=form.effective_rank
        )
        progress("spectrum", done=done, total=len(modules))
    return found


def by_layer(found: Mapping[str, Spectrum]) -> list[Layer]:
    """Modules gathered by the layer that their path names, in order; those outside come last."""
    grouped: dict[int, list[Spectrum]] = {}
    for path, spectrum in found.items():
        number = _LAYER.search(f"{path}.")
        grouped.setdefault(int(number[1]) if number else OUTSIDE, []).append(spectrum)
    order = sorted(grouped, key=lambda number: (number == OUTSIDE, number))
    return [_layer(number, grouped[number]) for number in order]


def sparkline(values: Sequence[float]) -> str:
    """Values between 0 and 1 as bars, at most `WIDTH` of them: each stands for the largest of its share."""
    count = min(len(values), WIDTH)
    shares = [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]
    return "".join(BARS[min(int(max(share) * len(BARS)), len(BARS) - 1)] for share in shares)


def to_document(found: Mapping[str, Spectrum]) -> dict[str, Any]:
    """Every module's spectrum as plain data."""
    return {
        path: {
            "rank": one.rank,
            "norm": one.norm,
            "effective_rank": one.effective_rank,
            "singular_values": list(one.values),
        }
        for path, one in found.items()
    }


def _layer(number: int, members: Sequence[Spectrum]) -> Layer:
    longest = max(one.rank for one in members)
    shapes = [[value / one.values[0] for value in one.values] if one.values else [] for one in members]
    padded = [shape + [0.0] * (longest - len(shape)) for shape in shapes]
    return Layer(
        number=number,
        modules=len(members),
        norm=math.sqrt(sum(one.norm**2 for one in members)),
        largest=max((one.values[0] for one in members if one.values), default=0.0),
        effective_rank=sum(one.effective_rank for one in members) / len(members),
        shape=tuple(sum(column) / len(members) for column in zip(*padded, strict=True)),
    )
