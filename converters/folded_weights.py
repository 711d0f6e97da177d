"""Weights in normal form, made when they are asked for: an adapter larger than memory can be folded."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zoo.converters.keys import PREFIX
from zoo.converters.rank import A, B
from zoo.converters.tensors import Place

if TYPE_CHECKING:
    from torch import Tensor

Pair = tuple["Tensor", "Tensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A tensor that a file holds in the same dtype, but for an exact scale.

    Attributes:
        place: where.
        scale: what multiplies it without rounding.
    """

    place: Place
    scale: float


@dataclass(frozen=True, kw_only=True)
class FoldedWeights(Mapping[str, "Tensor"]):
    """By PEFT file key: A `[rank, in]` and B `[out, rank]`, the same values whenever they are asked for.

    Attributes:
        pairs: what makes a module's two factors, by module path.
        sizes: `(out_features, in_features)` of each module.
        rank: of every module.
        dtype: of every tensor, as torch spells it.
        stored: what the source's file holds of it, by name; need not be complete.
        digests: sha256 of the source's files, by name.
    """

    pairs: Mapping[str, Callable[[], Pair]]
    sizes: Mapping[str, tuple[int, int]]
    rank: int
    dtype: str
    stored: Mapping[str, Stored] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    _last: dict[str, Pair] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> "Tensor":
        """One tensor; a module's two cost one fold when they are asked for one after the other."""
        path, part = self._place(name)
        if path not in self._last:
            self._last.clear()
            self._last[path] = self.pairs[path]()
        return self._last[path][part]

    def __iter__(self) -> Iterator[str]:
        """Names, module by module, A before B."""
        for path in self.pairs:
            yield f"{PREFIX}{path}{A}weight"
            yield f"{PREFIX}{path}{B}weight"

    def __len__(self) -> int:
        """Two a module."""
        return 2 * len(self.pairs)

    def shape(self, name: str) -> tuple[int, int]:
        """A tensor's shape, without making it."""
        path, part = self._place(name)
        out, wide = self.sizes[path]
        return (out, self.rank) if part else (self.rank, wide)

    def _place(self, name: str) -> tuple[str, int]:
        for part, mark in enumerate((A, B)):
            path = name.removeprefix(PREFIX).removesuffix(f"{mark}weight")
            if name == f"{PREFIX}{path}{mark}weight" and path in self.pairs:
                return path, part
        raise KeyError(name)
