"""The forms in which sources store a low-rank update, each with its exact expansion to plain factors.

Every form says the same thing twice, on purpose: `low_rank` gives factors, `update` computes the source's
own forward as its library writes it. A fold is checked by comparing the two. x is float64 `[rows, in]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.converters.tensors import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """A plain LoRA update `scale * b @ a`.

    Attributes:
        a: float `[r, in]`.
        b: float `[out, r]`.
        scale: what multiplies the product.
        places: of a and b in a file that holds them as they are, or None.
    """

    a: "Tensor"
    b: "Tensor"
    scale: float
    places: "tuple[Place, Place] | None" = None

    def low_rank(self) -> "LowRank":
        """Itself."""
        return self

    def update(self, x: "Tensor") -> "Tensor":
        """What the source adds to the module's output: float64 `[rows, out]`."""
        return (x @ self.a.double().T) @ self.b.double().T * self.scale


class Form(Protocol):
    """A stored update of one module."""

    def low_rank(self) -> LowRank:
        """The same update as plain factors, exact up to float64 rounding."""

    def update(self, x: "Tensor") -> "Tensor":
        """What the source adds to the module's output for inputs x: float64 `[rows, out]`."""


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """A form that is costly to expand, because it reads the base weight; its factors are kept.

    Attributes:
        form: the form.
        forget: makes its loader load it anew, when it is asked for again.
    """

    form: Form
    forget: Callable[[], None]

    def low_rank(self) -> LowRank:
        """The form's factors, computed once."""
        return self._plain

    def update(self, x: "Tensor") -> "Tensor":
        """The form's own forward."""
        return self.form.update(x)

    @cached_property
    def _plain(self) -> LowRank:
        return self.form.low_rank()


def remembered(load: Callable[[], Form]) -> Callable[[], Form]:
    """A loader that loads once, and whose form keeps its factors."""
    kept: list[Form] = []

    def loader() -> Form:
        if not kept:
            kept.append(Remembered(form=load(), forget=kept.clear))
        return kept[0]

    return loader


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """QA-LoRA: inputs are averaged in groups, and the averages scaled by the number of groups.

    Source: peft 0.21.2, tuners/lora/variants.py, `QALoraLinearVariant.forward`.

    Attributes:
        plain: factors on the pooled input; `a` is `[r, in / group]`.
        group: features a group.
    """

    plain: LowRank
    group: int

    def low_rank(self) -> LowRank:
        """Each pooled column repeated over its group."""
        factor = self.plain.a.shape[1] / self.group  # groups (scaling) over group size (mean)
        wide = self.plain.a.repeat_interleave(self.group, dim=1)
        return LowRank(a=wide, b=self.plain.b, scale=self.plain.scale * factor)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: pool, scale, project."""
        groups = self.plain.a.shape[1]
        pooled = x.view(x.shape[0], groups, self.group).mean(dim=2) * groups
        return self.plain.update(pooled)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDiagonal:
    """BD-LoRA: one factor is stored as the blocks of a block-diagonal matrix, one under the other.

    Source: peft 0.21.2, tuners/lora/variants.py, `BlockDiagonalLinear`.

    Attributes:
        plain: the factors as stored; `[r, in / blocks]` for a, or `[out, r / blocks]` for b.
        blocks: number of blocks.
        of_a: whether a is the stacked one, else b.
    """

    plain: LowRank
    blocks: int
    of_a: bool

    def low_rank(self) -> LowRank:
        """The stacked factor spread over the diagonal."""
        import torch

        a, b = self.plain.a, self.plain.b
        stacked = torch.block_diag(*(a if self.of_a else b).chunk(self.blocks))  # type: ignore[no-untyped-call]
        return LowRank(a=stacked if self.of_a else a, b=b if self.of_a else stacked, scale=self.plain.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: a grouped product for the stacked factor."""
        a, b = self.plain.a.double(), self.plain.b.double()
        hidden = self._grouped(x, a) if self.of_a else x @ a.T
        return (hidden @ b.T if self.of_a else self._grouped(hidden, b)) * self.plain.scale

    def _grouped(self, x: "Tensor", weight: "Tensor") -> "Tensor":
        import torch

        blocks = weight.view(self.blocks, -1, weight.shape[1])
        grouped = x.reshape(x.shape[0], self.blocks, -1)
        return torch.einsum("bim,inm->bin", grouped, blocks).reshape(x.shape[0], -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """LoRA-XS: a small trained square matrix between two frozen factors.

    A loader that overlooks it applies the frozen factors alone, which are an SVD of the base weight.
    Source: MohammadrezaBanaei/LoRA-XS@e50b1a8, utils/latent_utils.py.

    Attributes:
        plain: the frozen factors.
        mapping: float `[r, r]`.
    """

    plain: LowRank
    mapping: "Tensor"

    def low_rank(self) -> LowRank:
        """The mapping multiplied into b."""
        b = self.plain.b.double() @ self.mapping.double()
        return LowRank(a=self.plain.a, b=b, scale=self.plain.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: down, map, up."""
        hidden = (x @ self.plain.a.double().T) @ self.mapping.double().T
        return hidden @ self.plain.b.double().T * self.plain.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """PiSSA, OLoRA and their kin: the init moved part of the base weight into the factors.

    Over the *original* base the update is `scale * (b @ a - b0 @ a0)`, of rank 2r.
    Source: peft 0.21.2, tuners/lora/model.py, `_convert_state_dict_for_initial_model`.

    Attributes:
        final: the trained factors.
        initial: the factors before training, with the same scale.
    """

    final: LowRank
    initial: LowRank

    def low_rank(self) -> LowRank:
        """Both pairs side by side, the initial one negated."""
        import torch

        a = torch.cat([self.final.a, self.initial.a])
        b = torch.cat([self.final.b, -self.initial.b], dim=1)
        return LowRank(a=a, b=b, scale=self.final.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """The trained update less the initial one."""
        return self.final.update(x) - self.initial.update(x)
