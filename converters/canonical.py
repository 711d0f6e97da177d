"""The canonical form of a low-rank update: its singular value decomposition, from the factors alone.

Different factors of one update (another gauge, another split of the scale) have one canonical form, so that
spectra can be compared, duplicates found and ranks reduced optimally. The `out x in` product is never
formed: thin QR of both factors, then the SVD of a matrix of rank size, in float64 and on one thread, because
the order in which several threads add decides last bits.
Source: Ostapenko et al., arXiv 2405.11157, appendix; Fleshman & Van Durme, arXiv 2507.05346, equations 1-4.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEGLIGIBLE = 1e-6  # a singular value below this share of the largest is rounding of stored factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Canonical:
    """`u @ diag(s) @ v.T`, float64.

    Attributes:
        u: `[out, k]`, orthonormal columns.
        s: `[k]`, descending, none negligible; k is the numerical rank, 0 for a zero update.
        v: `[in, k]`, orthonormal columns; each one's entry of largest magnitude is positive.
    """

    u: "Tensor"
    s: "Tensor"
    v: "Tensor"

    @property
    def norm(self) -> float:
        """Frobenius norm of the update."""
        return float(self.s.norm())

    @property
    def effective_rank(self) -> float:
        """Exponential of the entropy of the squared singular values' shares: 1 to k; 0 for a zero update.

        Source: Roy & Vetterli, The effective rank, EUSIPCO 2007, on energies.
        """
        import torch

        if not len(self.s):
            return 0.0
        shares = self.s.square() / self.s.square().sum()
        return math.exp(float(torch.special.entr(shares).sum()))


def canonical(a: "Tensor", b: "Tensor", scale: float = 1.0) -> Canonical:
    """The canonical form of `scale * b @ a`.

    Args:
        a: float `[r, in]`.
        b: float `[out, r]`.
        scale: what multiplies the product.
    """
    import torch

    with one_thread():
        u, s, v = _decomposed(a, b, scale)
        kept = int((s > NEGLIGIBLE * s[0]).sum()) if len(s) and s[0] > 0 else 0
        u, s, v = u[:, :kept], s[:kept], v[:, :kept]
        if kept:
            largest = v.abs().argmax(dim=0)
            signs = torch.where(v[largest, torch.arange(kept)] < 0, -1.0, 1.0).double()
            u, v = u * signs, v * signs
    return Canonical(u=u, s=s, v=v)


def uncancelled(a: "Tensor", b: "Tensor", scale: float) -> "tuple[Tensor, Tensor]":
    """Other factors of `scale * b @ a`, none of whose columns makes up for another; see `canonical`.

    Returns:
        float64 `[k, in]` and `[out, k]`, k at most r; each singular value's root is in both.
    """
    with one_thread():
        u, s, v = _decomposed(a, b, scale)
        return (v * s.sqrt()).T, u * s.sqrt()


def _decomposed(a: "Tensor", b: "Tensor", scale: float) -> "tuple[Tensor, Tensor, Tensor]":
    """`scale * b @ a` as u, s and v, all of them, rounding included."""
    import torch

    left, upper_b = torch.linalg.qr(b.double())
    right, upper_a = torch.linalg.qr(a.double().T)
    u, s, vt = torch.linalg.svd(scale * upper_b @ upper_a.T, full_matrices=False)
    return left @ u, s, right @ vt.T


def inner(a: "Tensor", b: "Tensor", other_a: "Tensor", other_b: "Tensor") -> float:
    """The Frobenius inner product of `b @ a` and `other_b @ other_a`, from products of rank size.

    Args:
        a: float `[r, in]`.
        b: float `[out, r]`.
        other_a: float `[q, in]`.
        other_b: float `[out, q]`.
    """
    with one_thread():
        products = (b.double().T @ other_b.double()) * (a.double() @ other_a.double().T)
        return float(products.sum())


def distance(a: "Tensor", b: "Tensor", other_a: "Tensor", other_b: "Tensor") -> float:
    """Frobenius norm of `b @ a - other_b @ other_a`, exact where they nearly cancel too; see `inner`."""
    import torch

    with one_thread():
        left = torch.linalg.qr(torch.cat([b.double(), -other_b.double()], dim=1), mode="r").R
        right = torch.linalg.qr(torch.cat([a.double(), other_a.double()]).T, mode="r").R
        return float((left @ right.T).norm())


def overlap(first: "Tensor", second: "Tensor") -> float:
    """How much of the smaller of two subspaces lies in the other: mean squared cosine of principal angles.

    Args:
        first: float64 `[n, p]`, orthonormal columns.
        second: float64 `[n, q]`, orthonormal columns.

    Returns:
        0 for orthogonal subspaces to 1 where one holds the other; 0 if one is empty.
    """
    smaller = min(first.shape[1], second.shape[1])
    with one_thread():
        return float((first.T @ second).square().sum()) / smaller if smaller else 0.0


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread in the block, for results that do not depend on the machine's cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
