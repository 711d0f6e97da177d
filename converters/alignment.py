"""How a base model's alignment changed each weight: aligned minus unaligned, a module at a time.

Only products with thin matrices are formed. A module's difference is kept while it is worked on when it is
small enough, and is read again for every product when it is not (an output embedding).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.converters.base_weights import BLOCK_BYTES, BaseWeights, open_base_weights
from zoo.converters.module_weights import tied_embedding
from zoo.errors import RefusedError, UsageError
from zoo.models import CONV1D_TYPES

if TYPE_CHECKING:
    from torch import Tensor

HELD_BYTES = 512 << 20  # of one module's difference in float32
OVERSAMPLING, ITERATIONS = 8, 6  # of the subspace iteration


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignedPair:
    """A base model before and after it was aligned.

    Attributes:
        aligned: such as the instruct or chat model.
        unaligned: the pretrained model that it was made from.
        transposed: whether linear weights are stored `[in, out]` (GPT-2), the output embedding's excepted.
    """

    aligned: BaseWeights
    unaligned: BaseWeights
    transposed: bool = False

    @classmethod
    def open(cls, aligned: str, unaligned: str) -> "AlignedPair":
        """Opens both models' weights for reading piece by piece: folders, or names on the Hub.

        Raises:
            UsageError: one of them is not given, or both are the same.
            NotFoundError: there is no such model.
            UndecidedError: its weights cannot be had here.
        """
        if not (aligned and unaligned) or aligned == unaligned:
            raise UsageError(
                "Safe LoRA compares a model before and after its alignment",
                hint="--aligned ORG/MODEL-Instruct --unaligned ORG/MODEL",
            )
        first, second = open_base_weights(aligned), open_base_weights(unaligned)
        return cls(aligned=first, unaligned=second, transposed=first.model_type in CONV1D_TYPES)

    def difference(self, path: str, shape: tuple[int, int]) -> "Difference":
        """What alignment changed in one module.

        Args:
            path: the module's, in the base model.
            shape: `(out_features, in_features)` that the adapter's factors have.

        Raises:
            RefusedError: ZV050, a model has no such weight; ZV051, it has another shape.
        """
        transposed = self.transposed and not path.startswith("lm_head")
        stored = (shape[1], shape[0]) if transposed else shape
        names = []
        for weights in (self.aligned, self.unaligned):
            name = weight_name(weights.places, path)
            if weights.shape(name) != stored:
                raise RefusedError(
                    f"{path} is {stored[0]}×{stored[1]} in the adapter's base, and "
                    f"{'×'.join(map(str, weights.shape(name)))} in {weights.id}",
                    code="ZV051",
                    hint="name the aligned and the unaligned model of the adapter's own architecture",
                )
            names.append(name)
        return Difference(pair=self, names=(names[0], names[1]), shape=shape, transposed=transposed)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """V, aligned minus unaligned, of one module: float32 `[out, in]`, never copied whole to a wider dtype.

    Attributes:
        pair: the two models.
        names: the tensor's name in each.
        shape: `(out_features, in_features)`.
        transposed: whether it is stored `[in, out]`.
    """

    pair: AlignedPair
    names: tuple[str, str]
    shape: tuple[int, int]
    transposed: bool = False

    def times(self, x: "Tensor") -> "Tensor":
        """`V @ x`: float32 `[in, k]` to `[out, k]`."""
        return self._spread(x) if self.transposed else self._stacked(x)

    def transposed_times(self, x: "Tensor") -> "Tensor":
        """`V.T @ x`: float32 `[out, k]` to `[in, k]`."""
        return self._stacked(x) if self.transposed else self._spread(x)

    @cached_property
    def norm(self) -> float:
        """Frobenius norm."""
        return math.sqrt(sum(float(block.double().square().sum()) for _, block in self._blocks()))

    def leading(self, rank: int) -> tuple["Tensor", float]:
        """Orthonormal columns that span the leading left singular vectors, by subspace iteration.

        Args:
            rank: how many; fewer come back where V has fewer.

        Returns:
            float32 `[out, at most rank]`, and the share of V's squared norm that they hold, 0 to 1.

        Source: Halko, Martinsson & Tropp, arXiv 0909.4061, algorithm 4.4.
        """
        import torch

        width = min(rank + OVERSAMPLING, *self.shape)
        generator = torch.Generator().manual_seed(0)
        span = self.times(torch.randn(self.shape[1], width, generator=generator))
        for _ in range(ITERATIONS):
            back = torch.linalg.qr(self.transposed_times(torch.linalg.qr(span).Q)).Q
            span = self.times(back)
        basis = torch.linalg.qr(span).Q
        seen = torch.linalg.svd(self.transposed_times(basis).double(), full_matrices=False)
        kept = min(rank, int((1e-5 * seen.S[0] < seen.S).sum())) if self.norm else 0
        energy = float(seen.S[:kept].square().sum()) / self.norm**2 if self.norm else 0.0
        return basis @ seen.Vh[:kept].T.float(), min(energy, 1.0)

    @cached_property
    def _blocks(self) -> "Callable[[], Iterable[tuple[int, Tensor]]]":
        if 4 * self.shape[0] * self.shape[1] > HELD_BYTES:
            return self._read
        held = list(self._read())
        return lambda: held

    def _read(self) -> "Iterator[tuple[int, Tensor]]":
        before, after = self.names[1], self.names[0]
        columns = self.shape[0] if self.transposed else self.shape[1]
        rows = max(1, BLOCK_BYTES // (4 * max(columns, 1)))
        aligned = self.pair.aligned.rows(after, count=rows)
        unaligned = self.pair.unaligned.rows(before, count=rows)
        for (first, new), (_, old) in zip(aligned, unaligned, strict=True):
            yield first, new.float() - old.float()

    def _stacked(self, x: "Tensor") -> "Tensor":
        import torch

        return torch.cat([block @ x for _, block in self._blocks()])

    def _spread(self, x: "Tensor") -> "Tensor":
        total = x.new_zeros(self.shape[0] if self.transposed else self.shape[1], x.shape[1])
        for first, block in self._blocks():
            total += block.T @ x[first : first + len(block)]
        return total


def weight_name(names: Mapping[str, object], path: str) -> str:
    """The name of a module's weight in a checkpoint, which may leave out the outermost name, or tie it.

    Raises:
        RefusedError: ZV050, there is none.
    """
    wanted = f"{path}.weight"
    if wanted in names:
        return wanted
    if path == "lm_head" and (tied := tied_embedding(names)):
        return tied
    near = [name for name in names if name.endswith(f".{wanted}") or wanted.endswith(f".{name}")]
    if len(near) == 1:
        return near[0]
    raise RefusedError(
        f"there is no weight for the module {path[:200]!r}",
        code="ZV050",
        hint="name models of the adapter's own architecture",
    )
