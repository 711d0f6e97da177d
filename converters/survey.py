"""One look at every module of a checkpoint, from which the whole conversion is decided.

It loads each module's factors once, one module at a time, and so finds what is broken before anything is
written. What it notes lets the fold of plain factors that stay the same numbers compute nothing; what is
made with base weights is folded here, so that each of those is read once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.converters.canonical import one_thread
from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.concat import WeightedSum
from zoo.converters.exactness import expanded, power_of_two, rounded
from zoo.converters.forms import Form, LowRank, Remembered
from zoo.converters.tensors import Place, largest, same_bits
from zoo.converters.variants.approximation import Approximated

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_FIRST = 4096  # values that are compared before all of them: most scales fail at the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """What one look at a module noted.

    Attributes:
        rank: of its plain factors.
        shape: `(out_features, in_features)` of their product.
        dtype: the narrowest that holds both factors.
        plain: whether the source stores plain factors.
        exact: whether lora_B times the scale is the same number in `dtype`, which both factors have.
        scale: of the plain factors.
        places: of A and B in the source's file, where they lie there as they are.
        made: what it folds to, where that is known to be float32 already; of its own rank.
        error: relative Frobenius error of `made`.
        loss: that of factors that stand for an update without an exact form, which was accepted; else 0.
    """

    rank: int
    shape: tuple[int, int]
    dtype: "torch.dtype"
    plain: bool
    exact: bool
    scale: float
    places: tuple[Place, Place] | None
    made: "tuple[Tensor, Tensor] | None"
    error: float
    loss: float

    def stays(self, dtype: "torch.dtype") -> bool:
        """Whether the fold into this dtype makes the same numbers by construction."""
        return self.plain and self.exact and self.dtype == dtype


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was noted of each module, by path."""

    modules: Mapping[str, Surveyed]

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks, ascending."""
        return tuple(sorted({one.rank for one in self.modules.values()}))

    @property
    def errors(self) -> list[float]:
        """Those of the modules without an exact low-rank form."""
        return [one.loss for one in self.modules.values() if one.loss]

    @cached_property
    def dtype(self) -> "torch.dtype":
        """The source's dtype where folding into it loses nothing, else float32."""
        import torch

        widest = next((one.dtype for one in self.modules.values()), torch.float16)
        for one in self.modules.values():
            widest = torch.promote_types(widest, one.dtype)
        exact = all(one.exact for one in self.modules.values())
        return torch.float32 if widest is torch.float64 or (widest.itemsize == 2 and not exact) else widest


def survey(checkpoint: LoraCheckpoint) -> Survey:
    """Looks at every module; one is in memory at a time.

    Raises:
        RefusedError: ZV016, values that are not finite; and what the forms raise.
    """
    with one_thread():
        return Survey(modules={path: _look(load()) for path, load in checkpoint.modules.items()})


def _look(form: Form) -> Surveyed:
    import torch

    low, wanted = expanded(form)
    dtype = torch.promote_types(low.a.dtype, low.b.dtype)
    plain = isinstance(form, LowRank)
    made, error = None, 0.0
    if not plain and dtype == torch.float64:  # so all of them will be float32: it is folded while it is here
        found = rounded(form, low, low.a.shape[0], torch.float32, wanted)
        made, error = (found.a, found.b), found.error
    if isinstance(form, Remembered):
        form.forget()
    return Surveyed(
        rank=low.a.shape[0],
        shape=(low.b.shape[0], low.a.shape[1]),
        dtype=dtype,
        plain=plain,
        exact=_scales_exactly(low),
        scale=low.scale,
        places=low.places,
        made=made,
        error=error,
        loss=form.error if isinstance(form, Approximated | WeightedSum) else 0.0,
    )


def _scales_exactly(low: LowRank) -> bool:
    """Whether lora_B times the scale is the same number in its own dtype, whose exponents have limits."""
    import torch

    if low.a.dtype != low.b.dtype:
        return False
    if low.scale == 1.0:
        return True
    if power_of_two(low.scale):
        if abs(low.scale) > 1:  # nothing is lost but at the top
            return largest(low.b) * abs(low.scale) <= torch.finfo(low.b.dtype).max
        return same_bits(low.b * low.scale / low.scale, low.b)
    return all(
        torch.equal((wide := piece.double() * low.scale).to(piece.dtype).double(), wide)
        for piece in (low.b.flatten()[:_FIRST], low.b)
    )
