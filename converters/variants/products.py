"""Methods whose update is an elementwise or a Kronecker product of small factors: LoHa and LoKr."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Hadamard:
    """LoHa: the elementwise product of two low-rank matrices, of rank r1·r2 by the Khatri-Rao product.

    Source: peft 0.21.2, tuners/loha/layer.py, `HadaWeight`; LyCORIS, modules/loha.py; arXiv 2108.06098.

    Attributes:
        first: b and a of the first product; float `[out, r1]` and `[r1, in]`.
        second: b and a of the second product.
        scale: alpha over the rank.
    """

    first: "tuple[Tensor, Tensor]"
    second: "tuple[Tensor, Tensor]"
    scale: float

    def low_rank(self) -> LowRank:
        """Every pair of columns, and every pair of rows, multiplied elementwise."""
        (b1, a1), (b2, a2) = self._doubles()
        b = (b1[:, :, None] * b2[:, None, :]).flatten(1)
        a = (a1[:, None, :] * a2[None, :, :]).flatten(0, 1)
        return LowRank(a=a, b=b, scale=self.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own product, a few rows of the weight at a time."""
        import torch

        (b1, a1), (b2, a2) = self._doubles()
        rows = zip(torch.split(b1, 256), torch.split(b2, 256), strict=True)
        return torch.cat([x @ ((left @ a1) * (right @ a2)).T for left, right in rows], dim=1) * self.scale

    def _doubles(self) -> "tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]":
        (b1, a1), (b2, a2) = self.first, self.second
        return (b1.double(), a1.double()), (b2.double(), a2.double())


def loha(stored: Stored) -> Form:
    """LoHa's form."""
    out, wide = stored.shape
    a1, a2 = stored.take("hada_w1_b", None, wide), stored.take("hada_w2_b", None, wide)
    return Hadamard(
        first=(stored.take("hada_w1_a", out, stored.agree(a1.shape[0])), a1),
        second=(stored.take("hada_w2_a", out, stored.agree(a2.shape[0])), a2),
        scale=stored.alpha / stored.rank,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kronecker:
    """LoKr: the Kronecker product of a small matrix and a larger one, each whole or of low rank.

    With W1 = L1 R1 and W2 = L2 R2 it is (L1 ⊗ L2)(R1 ⊗ R2), of the product of their ranks.
    Source: peft 0.21.2, tuners/lokr/layer.py, `get_delta_weight`; LyCORIS, modules/lokr.py.

    Attributes:
        first: left and right factor of W1; float `[o1, r1]` and `[r1, i1]`.
        second: left and right factor of W2.
        scale: alpha over the rank.
    """

    first: "tuple[Tensor, Tensor]"
    second: "tuple[Tensor, Tensor]"
    scale: float

    def low_rank(self) -> LowRank:
        """The Kronecker products of the left and of the right factors."""
        import torch

        (l1, r1), (l2, r2) = self.first, self.second
        b, a = torch.kron(l1.double(), l2.double()), torch.kron(r1.double(), r2.double())
        return LowRank(a=a, b=b, scale=self.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """W2 on the inner index of the input, W1 on the outer one: (W1 ⊗ W2) vec(X) = vec(W1 X W2ᵀ)."""
        w1 = self.first[0].double() @ self.first[1].double()
        w2 = self.second[0].double() @ self.second[1].double()
        grid = x.reshape(x.shape[0], w1.shape[1], w2.shape[1])
        return (w1 @ (grid @ w2.T)).flatten(1) * self.scale


def lokr(stored: Stored) -> Form:
    """LoKr's form.

    Raises:
        RefusedError: ZV016, the factors do not multiply to the module's shape, or are those of a convolution.
    """
    first, second = _sides(stored, "lokr_w1"), _sides(stored, "lokr_w2")
    out = first[0].shape[0] * second[0].shape[0]
    wide = first[1].shape[1] * second[1].shape[1]
    if (out, wide) != stored.shape:
        raise broken(f"{stored.path}: the Kronecker factors make {out}×{wide}")
    return Kronecker(first=first, second=second, scale=stored.alpha / stored.rank)


def _sides(stored: Stored, part: str) -> "tuple[Tensor, Tensor]":
    """Left and right factor; of a matrix stored whole, itself and the identity of its smaller side."""
    import torch

    if part not in stored.tensors:
        left = stored.take(f"{part}_a", None, None)
        return left, stored.take(f"{part}_b", stored.agree(left.shape[1]), None)
    whole = stored.take(part, None, None)
    if whole.shape[0] <= whole.shape[1]:
        return torch.eye(whole.shape[0], dtype=whole.dtype), whole
    return whole, torch.eye(whole.shape[1], dtype=whole.dtype)
