"""Plain factors in normal form, and how far they are from what their source adds, measured in two ways."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from zoo.converters.canonical import uncancelled
from zoo.converters.forms import Form, LowRank, Remembered

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_FOLD_ERROR = 1e-6  # float32 rounding of lora_B is 6e-8; anything above this is a wrong fold
PROBES = 16
_NOISE = 1e-14  # of the factors' norms: what float64 itself cannot tell from nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounded:
    """A module's factors in normal form.

    Attributes:
        a: `[rank, in]`.
        b: `[out, rank]`, with the scale in it.
        error: relative error against the source's update; see `fold_error`.
        other: whether they are other factors of the same product than the source's own.
    """

    a: "Tensor"
    b: "Tensor"
    error: float
    other: bool = False


@runtime_checkable
class OnePass(Protocol):
    """A form that reads a whole base weight for its factors and for its own forward: once for the two."""

    @property
    def inputs(self) -> int:
        """Features of the module's input."""

    def both(self, x: "Tensor") -> "tuple[LowRank, Tensor]":
        """Its factors, and its update of x; see `Form`."""


def expanded(form: Form) -> "tuple[LowRank, Tensor | None]":
    """A form's plain factors, and what it adds to the probes where that costs next to nothing now.

    Args:
        form: the source's own form.

    Returns:
        The factors; and float64 `[PROBES, out]` for `rounded`, or None.
    """
    inner = form.form if isinstance(form, Remembered) else form
    if isinstance(inner, OnePass):
        return inner.both(_probes(inner.inputs))
    return form.low_rank(), None


def rounded(
    form: Form, plain: LowRank, rank: int, dtype: "torch.dtype", wanted: "Tensor | None" = None
) -> Rounded:
    """Brings a form into normal form with as little rounding as can be.

    Rounding is relative to the factors. Where parts of an update nearly cancel, such as a PiSSA's factors
    and those before training, the update is far smaller than they are, and loses digits that other factors
    of the same product keep.

    Args:
        form: the source's own form.
        plain: its plain factors.
        rank: of the result, at least theirs.
        dtype: of the result.
        wanted: what the form adds to the probes, if it is known; see `expanded`.
    """
    a, b = normal(plain, rank, dtype)
    found = Rounded(a=a, b=b, error=fold_error(form, a, b, plain=plain, wanted=wanted))
    if not MAX_FOLD_ERROR < found.error < math.inf:
        return found
    left, right = uncancelled(plain.a, plain.b, plain.scale)
    a, b = normal(LowRank(a=left, b=right, scale=1.0), rank, dtype)
    error = fold_error(form, a, b, plain=plain, wanted=wanted)
    return Rounded(a=a, b=b, error=error, other=True) if error < found.error else found


def fold_error(
    form: Form, a: "Tensor", b: "Tensor", *, plain: LowRank | None = None, wanted: "Tensor | None" = None
) -> float:
    """How far `b @ a` is from what the source adds: the larger of two independent measurements.

    Args:
        form: the source's own form.
        a: `[rank, in]`, of at least the rank of the plain factors.
        b: `[out, rank]`.
        plain: the form's own plain factors, where they are at hand.
        wanted: what the form adds to the probes, where that is; see `expanded`.

    Returns:
        Relative Frobenius error; 0 for two zero updates, infinity against a zero source.
    """
    plain = plain or form.low_rank()
    noise = _NOISE * abs(plain.scale) * float(plain.b.double().norm()) * float(plain.a.double().norm())
    exact = _ratio(*_off(plain, a, b), noise)
    if isinstance(form, LowRank):  # its forward is these factors: there is nothing else to compare with
        return exact
    x = _probes(a.shape[1])
    wanted = form.update(x) if wanted is None else wanted
    probed = (x @ a.double().T) @ b.double().T - wanted
    return max(exact, _ratio(float(probed.norm()), float(wanted.norm()), noise * float(x.norm())))


@lru_cache(maxsize=4)
def _probes(width: int) -> "Tensor":
    """The inputs on which a fold is held against its source's own forward, float64 `[PROBES, width]`."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(PROBES, width, generator=generator, dtype=torch.float64)


def normal(plain: LowRank, rank: int, dtype: "torch.dtype") -> tuple["Tensor", "Tensor"]:
    """Plain factors with another rank and dtype, and the scale in b; those that need no change as they are.

    Args:
        plain: the factors.
        rank: of the result, at least theirs; what is added is zero.
        dtype: of the result.
    """
    import torch

    r = plain.a.shape[0]
    if r == rank and plain.a.dtype == plain.b.dtype == dtype and power_of_two(plain.scale):
        return plain.a, plain.b if plain.scale == 1.0 else plain.b * plain.scale
    a = torch.zeros(rank, plain.a.shape[1], dtype=torch.float64)
    b = torch.zeros(plain.b.shape[0], rank, dtype=torch.float64)
    a[:r] = plain.a
    b[:, :r] = plain.b.double() * plain.scale
    return a.to(dtype), b.to(dtype)


def power_of_two(scale: float) -> bool:
    """Whether multiplying by it only moves exponents: exact in every float dtype short of its limits."""
    return abs(math.frexp(scale)[0]) == 0.5


def _off(plain: LowRank, a: "Tensor", b: "Tensor") -> tuple[float, float]:
    """Frobenius norms of `b @ a` less the product of plain factors, and of that product.

    Of Δa and Δb, what rounding made of each factor, the difference is `Δb a + s b₀ Δa`: both small, so that
    nothing large cancels.
    """
    import torch

    r = plain.a.shape[0]
    first, second, wide = plain.b.double() * plain.scale, plain.a.double(), a.double()
    off_a, off_b = wide.clone(), b.to(torch.float64, copy=True)
    off_a[:r] -= second
    off_b[:, :r] -= first
    if not off_a.any():
        return (_norm(off_b, wide), _norm(first, second)) if off_b.any() else (0.0, 0.0)
    return _norm(torch.cat([off_b, first], dim=1), torch.cat([wide, off_a[:r]])), _norm(first, second)


def _norm(left: "Tensor", right: "Tensor") -> float:
    """Frobenius norm of `left @ right`: float64 `[m, k]` and `[k, n]`.

    From Gram matrices, whose entries are sums over the long sides; where those nearly cancel, from triangular
    factors.
    """
    import torch

    products = (left.T @ left) * (right @ right.T)
    total, spread = float(products.sum()), float(products.abs().sum())
    if total > 1e-6 * spread or spread == 0.0:
        return math.sqrt(total)
    first = torch.linalg.qr(left, mode="r").R
    second = torch.linalg.qr(right.T, mode="r").R
    return float((first @ second.T).norm())


def _ratio(error: float, size: float, noise: float) -> float:
    if error <= noise:
        return 0.0
    return error / size if size else math.inf
