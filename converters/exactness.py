"""How far folded factors are from what their source adds, measured in two independent ways."""

import math
from typing import TYPE_CHECKING

from zoo.converters.forms import Form, LowRank

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAX_FOLD_ERROR = 1e-6  # float32 rounding of lora_B is 6e-8; anything above this is a wrong fold
PROBES = 16


def fold_error(form: Form, a: "Tensor", b: "Tensor", *, plain: LowRank | None = None) -> float:
    """How far `b @ a` is from what the source adds: the larger of two independent measurements.

    Args:
        form: the source's own form.
        a: `[rank, in]`.
        b: `[out, rank]`.
        plain: the form's own plain factors, where they are at hand.

    Returns:
        Relative Frobenius error; 0 for two zero updates, infinity against a zero source.
    """
    import torch

    plain = plain or form.low_rank()
    if isinstance(form, LowRank):  # its forward is these factors: there is nothing else to compare with
        return _plain_error(plain, a, b)
    exact = _norm(torch.cat([b.double(), -plain.scale * plain.b.double()], dim=1), _stack(a, plain.a))
    size = abs(plain.scale) * _norm(plain.b.double(), plain.a.double())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PROBES, a.shape[1], generator=generator, dtype=torch.float64)
    wanted = form.update(x)
    probed = (x @ a.double().T) @ b.double().T - wanted
    return max(_ratio(exact, size), _ratio(float(probed.norm()), float(wanted.norm())))


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


def _plain_error(plain: LowRank, a: "Tensor", b: "Tensor") -> float:
    """The relative error of factors made from plain ones: none where they are the same numbers.

    Else from Gram matrices, whose entries are sums over the long side; where those nearly cancel, from
    triangular factors.
    """
    import torch

    r = plain.a.shape[0]
    same = torch.equal(a[:r].to(plain.a.dtype), plain.a) and not a[r:].any() and not b[:, r:].any()
    if same and b.dtype == plain.b.dtype and power_of_two(plain.scale):
        unscaled = b[:, :r] if plain.scale == 1.0 else b[:, :r] / plain.scale
        if torch.equal(unscaled, plain.b):
            return 0.0
    off = b.to(torch.float64, copy=True)
    off[:, :r] -= plain.scale * plain.b.double()
    if same and torch.equal(a[:r].double(), plain.a.double()):
        grams = a.double() @ a.double().T
        wide = plain.scale * plain.b.double()
        whole = wide.T @ wide
        size = float((whole * grams[:r, :r]).sum())
        if size > 1e-6 * float(whole.norm() * grams[:r, :r].norm()):
            return _ratio(max(float(((off.T @ off) * grams).sum()), 0.0) ** 0.5, size**0.5)
    exact = _norm(torch.cat([b.double(), -plain.scale * plain.b.double()], dim=1), _stack(a, plain.a))
    return _ratio(exact, abs(plain.scale) * _norm(plain.b.double(), plain.a.double()))


def _stack(a: "Tensor", other: "Tensor") -> "Tensor":
    import torch

    return torch.cat([a.double(), other.double()])


def _norm(left: "Tensor", right: "Tensor") -> float:
    """Frobenius norm of `left @ right` from triangular factors: float64 `[m, k]` and `[k, n]`."""
    import torch

    first = torch.linalg.qr(left, mode="r").R
    second = torch.linalg.qr(right.T, mode="r").R
    return float((first @ second.T).norm())


def _ratio(error: float, size: float) -> float:
    if error == 0.0:
        return 0.0
    return error / size if size else math.inf
