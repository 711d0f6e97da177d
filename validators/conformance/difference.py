"""How far two tensors are apart, with NaN never equal to anything."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The distance between two tensors of one shape.

    Attributes:
        max_abs: largest absolute difference; infinite when either side is not finite somewhere.
        rms: root of the mean squared difference; infinite likewise.
    """

    max_abs: float
    rms: float

    def within(self, tolerance: float) -> bool:
        """Whether the largest difference is at most `tolerance`; never true for what is not finite."""
        return self.max_abs <= tolerance and self.max_abs != float("inf")


ZERO = Difference(max_abs=0.0, rms=0.0)
UNKNOWN = Difference(max_abs=float("inf"), rms=float("inf"))


def difference(one: "Tensor", other: "Tensor") -> Difference:
    """The distance between two floating tensors of the same shape; of empty ones it is zero.

    Raises:
        ValueError: the shapes differ.
    """
    import torch

    if one.shape != other.shape:
        raise ValueError(f"shapes {list(one.shape)} and {list(other.shape)} cannot be compared")
    if one.numel() == 0:
        return ZERO
    # not only the difference: inf - inf is NaN, but so is a NaN that both sides share
    if not bool(torch.isfinite(one).all() & torch.isfinite(other).all()):
        return UNKNOWN
    gap = one.double() - other.double()
    return Difference(max_abs=float(gap.abs().max()), rms=float(gap.square().mean().sqrt()))


def worst(found: Iterable[Difference]) -> Difference:
    """The largest of each measure; zero when there is none."""
    several = list(found)
    if not several:
        return ZERO
    return Difference(max_abs=max(d.max_abs for d in several), rms=max(d.rms for d in several))


def same_bits(one: "Tensor", other: "Tensor") -> "Tensor":
    """Elementwise: both finite and of identical bits; a bool tensor of the same shape.

    Raises:
        ValueError: the shapes or dtypes differ.
    """
    import torch

    if one.shape != other.shape or one.dtype != other.dtype:
        raise ValueError(f"{one.dtype}{list(one.shape)} and {other.dtype}{list(other.shape)} differ in kind")
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return (one.contiguous().view(integers) == other.contiguous().view(integers)) & torch.isfinite(one)
