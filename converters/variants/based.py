"""Methods whose low-rank update is made with the base weight: HRA, DEFT and KaSA's truncation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.converters.canonical import uncancelled
from zoo.converters.forms import Form, LowRank
from zoo.converters.tall import smallest, times
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflections:
    """HRA: the input passes r Householder reflections, `W₀ (H₁ … H_r − 1)`; of rank r.

    H₁ … H_r = 1 − U T Uᵀ with T upper triangular: T_ii = 2 and T[:i, i] = −2 T[:i, :i] U[:, :i]ᵀ uᵢ (the
    compact WY form). With Gram-Schmidt the u are orthonormal and T = 2.
    Source: peft 0.21.2, tuners/hra/layer.py, `HRALinear.get_delta_weight`; arXiv 2405.17484, eq. 4;
    Schreiber and Van Loan, A storage-efficient WY representation, 1989.

    Attributes:
        vectors: float `[in, r]`, not normalised.
        orthogonal: whether Gram-Schmidt is applied to them.
        weight: loads the base weight, float `[out, in]`.
    """

    vectors: "Tensor"
    orthogonal: bool
    weight: "Callable[[], Tensor]"

    def low_rank(self) -> LowRank:
        """−W₀ U T Uᵀ, by other factors of U T Uᵀ: PEFT starts from equal pairs of u, which cancel."""
        a, b = self._factors()
        return LowRank(a=a, b=-times(self.weight(), b), scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """The input reflected once for each vector, through the base weight, less the input unreflected."""
        return times(self.weight(), self._moved(x).T).T

    @property
    def inputs(self) -> int:
        """Features of the module's input."""
        return self.vectors.shape[0]

    def both(self, x: "Tensor") -> "tuple[LowRank, Tensor]":
        """`low_rank` and `update`, which share nothing but a pass over the base weight."""
        import torch

        a, b = self._factors()
        made = times(self.weight(), torch.cat([b, self._moved(x).T], dim=1))
        rank = b.shape[1]
        return LowRank(a=a, b=-made[:, :rank], scale=1.0), made[:, rank:].T

    def _factors(self) -> "tuple[Tensor, Tensor]":
        """Of U T Uᵀ: float64 `[k, in]` and `[in, k]`."""
        import torch

        u = self._units()
        r = u.shape[1]
        t = torch.zeros(r, r, dtype=torch.float64)
        gram = u.T @ u
        for i in range(r):
            t[:i, i] = -2 * (t[:i, :i] @ gram[:i, i])
            t[i, i] = 2
        a, b = uncancelled(u.T, u @ t, 1.0)
        return a.contiguous(), b

    def _moved(self, x: "Tensor") -> "Tensor":
        """How far the reflections take inputs, float64 `[rows, in]`."""
        u, reflected = self._units(), x.clone()
        for column in reversed(u.T.contiguous()):  # x (H₁ H₂ …)ᵀ = x … H₂ H₁: the last one first
            reflected.addr_(reflected @ column, column, alpha=-2)
        return reflected - x

    def _units(self) -> "Tensor":
        """The vectors normalised, or made orthonormal one after another, as the library does."""
        import torch

        u = self.vectors.double()
        if not self.orthogonal:
            lengths: Tensor = u.norm(dim=0)
            return u / lengths
        kept: list[Tensor] = []
        for column in u.T:
            for other in kept:
                column = column - (other @ column) * other
            kept.append(column / column.norm())
        return torch.stack(kept, dim=1)


def hra(stored: Stored) -> Form:
    """HRA's form."""
    vectors = stored.take("hra_u", stored.shape[1], None)
    stored.agree(vectors.shape[1])
    return Reflections(
        vectors=vectors, orthogonal=bool(stored.settings.get("apply_GS")), weight=stored.weight
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """DEFT: what the base weight writes into a subspace is taken out, and something else put in; rank r.

    `Q (s R − Pᵀ W₀)`, with Q = P from a QR decomposition, or Q as stored and P = relu(Q).
    Source: peft 0.21.2, tuners/deft/layer.py, `DeftLinear.forward` and `_project`.

    Attributes:
        direction: float `[out, r]`, as stored.
        injected: float `[r, in]`, scaled; None removes only (PaRa).
        relu: whether the second factor is the positive part, else both are orthonormal.
        weight: loads the base weight, float `[out, in]`.
    """

    direction: "Tensor"
    injected: "Tensor | None"
    relu: bool
    weight: "Callable[[], Tensor]"

    def low_rank(self) -> LowRank:
        """What is put in less what is taken out, as a; PEFT begins with the same in both."""
        q, p = self._projections()
        a = -times(self.weight().T, p, exact=True).T
        return LowRank(a=a if self.injected is None else a + self.injected, b=q, scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: on the base's output, not on its weight."""
        q, p = self._projections()
        taken = (times(self.weight(), x.T, exact=True).T @ p) @ q.T
        return -taken if self.injected is None else (x @ self.injected.T) @ q.T - taken

    def _projections(self) -> "tuple[Tensor, Tensor]":
        import torch

        direction = self.direction.double()
        if self.relu:
            return direction, direction.relu()
        q = torch.linalg.qr(direction).Q
        return q, q


def deft(stored: Stored) -> Form:
    """DEFT's form."""
    out, wide = stored.shape
    direction = stored.take("deft_P", out, min(stored.rank, out))
    injected = None
    if not stored.settings.get("para"):
        alpha = stored.number("alpha", 0)
        scale = alpha / direction.shape[1] if alpha else 1.0
        injected = stored.take("deft_R", direction.shape[1], wide).double() * scale
    return Replacement(
        direction=direction,
        injected=injected,
        relu=stored.settings.get("decomposition_method", "relu") == "relu",
        weight=stored.weight,
    )


@dataclass(frozen=True, kw_only=True)
class Truncated:
    """KaSA: a LoRA with a trained diagonal, over a base weight without its r smallest singular values.

    Over the whole base weight that is `s B diag(d) A − U_tail S_tail V_tailᵀ`, of rank 2r. The tail is made
    in float64 where the library's SVD is in float32.
    Source: peft 0.21.2, tuners/lora/variants.py, `KasaLinearVariant`; arXiv 2412.06071, eq. 5 and 7.

    Attributes:
        plain: the factors as stored.
        diagonal: float `[r]`.
        weight: loads the base weight, float `[out, in]`.
    """

    plain: LowRank
    diagonal: "Tensor"
    weight: "Callable[[], Tensor]"

    def low_rank(self) -> LowRank:
        """The trained product beside the removed one, negated."""
        import torch

        b = self.plain.b.double() * self.diagonal.double() * self.plain.scale
        left, right = self._tail
        return LowRank(a=torch.cat([self.plain.a.double(), right]), b=torch.cat([b, -left], dim=1), scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward over the truncated weight, less the whole weight's."""
        left, right = self._tail
        trained = ((x @ self.plain.a.double().T) * self.diagonal.double()) @ self.plain.b.double().T
        # over the truncated weight less over the whole weight; their difference is in nothing but the tail
        return trained * self.plain.scale - (x @ right.T) @ left.T

    @cached_property
    def _tail(self) -> "tuple[Tensor, Tensor]":
        return smallest(self.weight(), self.diagonal.shape[0])
