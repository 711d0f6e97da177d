"""Methods that change a weight at full rank: DoRA, OFT, IA³, HiRA, and sparse or circulant updates.

`delta` is the matrix as its definition gives it; `update` is the library's forward, which takes another way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.forms import LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.approximation import Dense
from zoo.converters.variants.stored import Stored, unfoldable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposed:
    """DoRA: `m / ‖W₀ + sBA‖ ⊙ (W₀ + sBA)`, with one magnitude for each output row, or each input column.

    PEFT, MLX and Diffusers keep magnitudes and norms of output rows; LyCORIS and kohya of input columns.
    Source: peft 0.21.2, tuners/lora/dora.py, `DoraLinearLayer`; arXiv 2402.09353, eq. 5; LyCORIS,
    modules/locon.py, `apply_weight_decompose`.

    Attributes:
        plain: the LoRA.
        magnitude: float `[out]`, or `[in]` with `of_inputs`.
        of_inputs: whether magnitudes are of input columns.
        weight: loads the base weight, float `[out, in]`.
    """

    plain: LowRank
    magnitude: "Tensor"
    weight: "Callable[[], Tensor]"
    of_inputs: bool = False

    def delta(self) -> "Tensor":
        """The renormalised sum less the base weight."""
        weight = self.weight().double()
        total = weight + (self.plain.b.double() @ self.plain.a.double()) * self.plain.scale
        return total * self._factor(total) - weight

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: base and LoRA outputs, rescaled; or inputs rescaled before both."""
        weight = self.weight().double()
        total = weight + (self.plain.b.double() @ self.plain.a.double()) * self.plain.scale
        factor = self._factor(total).flatten()
        base = x @ weight.T
        if self.of_inputs:
            return (x * factor) @ weight.T + self.plain.update(x * factor) - base
        return (factor - 1) * base + factor * self.plain.update(x)

    def _factor(self, total: "Tensor") -> "Tensor":
        dim = 0 if self.of_inputs else 1
        lengths: Tensor = total.norm(dim=dim, keepdim=True)
        return self.magnitude.double().flatten().unsqueeze(dim) / lengths


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """OFT and BOFT: the input is rotated within blocks, then meets the base weight; BOFT scales the output.

    Source: peft 0.21.2, tuners/oft/layer.py, `OFTRotationModule`, and tuners/boft/layer.py,
    `Linear.forward`; arXiv 2306.07280, eq. 2; arXiv 2311.06243.

    Attributes:
        rotations: float64 `[in / size, size, size]`.
        weight: loads the base weight, float `[out, in]`.
        outputs: what multiplies the outputs, float `[out]`; None for OFT.
    """

    rotations: "Tensor"
    weight: "Callable[[], Tensor]"
    outputs: "Tensor | None" = None

    def delta(self) -> "Tensor":
        """The base weight with its columns rotated, less itself."""
        import torch

        weight = self.weight().double()
        whole: Tensor = torch.block_diag(*self.rotations)  # type: ignore[no-untyped-call]
        turned = weight @ whole.T
        return (turned if self.outputs is None else turned * self.outputs.double()[:, None]) - weight

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: rotate block by block, then project."""
        import torch

        blocks, size = self.rotations.shape[:2]
        weight = self.weight().double()
        turned = torch.einsum("nrk,rkc->nrc", x.view(-1, blocks, size), self.rotations).flatten(1) @ weight.T
        return (turned if self.outputs is None else turned * self.outputs.double()) - x @ weight.T


def oft(stored: Stored) -> Dense:
    """OFT's form.

    Raises:
        RefusedError: ZV012, the constrained variant (coft), which is projected when it runs; ZV016.
    """
    import torch

    vectors = stored.take("oft_R", None, None)
    if stored.settings.get("coft"):
        raise unfoldable("is a constrained OFT (coft), which changes its weights each time it runs")
    size = _block_size(vectors.shape[1])
    blocks = stored.shape[1] // size
    if vectors.shape[0] not in (1, blocks) or blocks * size != stored.shape[1]:
        raise broken(
            f"{stored.path}: {vectors.shape[0]} rotations of {size} do not fit {stored.shape[1]} inputs"
        )
    skew = torch.zeros(vectors.shape[0], size, size, dtype=torch.float64)
    rows, columns = torch.triu_indices(size, size, 1)
    skew[:, rows, columns] = vectors.double()
    skew = skew - skew.transpose(1, 2)
    if stored.settings.get("use_cayley_neumann", True):
        rotations = neumann(skew, int(stored.number("num_cayley_neumann_terms", 5)))
    else:
        one = torch.eye(size, dtype=torch.float64).expand_as(skew)
        rotations = torch.linalg.solve(one + skew, one - skew, left=False)
    return Rotated(rotations=rotations.expand(blocks, size, size), weight=stored.weight)


def boft(stored: Stored) -> Dense:
    """BOFT's form without butterfly factors, which PEFT itself uses wherever its CUDA extension is missing.

    Raises:
        RefusedError: ZV012, several butterfly factors; ZV016, blocks that do not fit.
    """
    import torch

    values = stored.take("boft_R", None, None, None, None)
    factors, blocks, size, other = values.shape
    if factors != 1:
        raise unfoldable(f"is a BOFT of {factors} butterfly factors, which need PEFT's CUDA extension")
    if size != other or blocks * size != stored.shape[1]:
        raise broken(f"{stored.path}: {blocks} rotations of {size} do not fit {stored.shape[1]} inputs")
    skew = 0.5 * (values[0].double() - values[0].double().transpose(1, 2))
    one = torch.eye(size, dtype=torch.float64).expand_as(skew)
    rotations = torch.linalg.solve(one + skew, one - skew, left=False)
    outputs = stored.take("boft_s", stored.shape[0], 1).flatten()
    return Rotated(rotations=rotations, weight=stored.weight, outputs=outputs)


def _block_size(elements: int) -> int:
    import math

    size = (1 + math.isqrt(1 + 8 * elements)) // 2
    if size * (size - 1) // 2 != elements:
        raise broken(f"{elements} values are no skew-symmetric matrix")
    return size


def neumann(skew: "Tensor", terms: int) -> "Tensor":
    """The library's truncated series, which is not quite a rotation: 1 + 2Q + 2Q² + … + Qᵗ⁻¹."""
    import torch

    if not 1 <= terms <= 64:
        raise broken(f"num_cayley_neumann_terms is {terms}")
    total = torch.eye(skew.shape[1], dtype=torch.float64).repeat(skew.shape[0], 1, 1)
    if terms > 1:
        total += 2 * skew
    if terms > 2:
        power = skew @ skew
        total += 2 * power
        for _ in range(3, terms - 1):
            power = power @ skew
            total += 2 * power
        total += power @ skew
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """IA³: outputs, or in feed-forward modules inputs, multiplied by a vector.

    Source: peft 0.21.2, tuners/ia3/layer.py, `Linear.forward`; arXiv 2205.05638.

    Attributes:
        vector: float `[out]`, or `[in]` with `of_inputs`.
        of_inputs: whether inputs are multiplied.
        weight: loads the base weight, float `[out, in]`.
    """

    vector: "Tensor"
    of_inputs: bool
    weight: "Callable[[], Tensor]"

    def delta(self) -> "Tensor":
        """The base weight times the vector less one."""
        less = self.vector.double() - 1
        return self.weight().double() * (less[None, :] if self.of_inputs else less[:, None])

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward, less the base's."""
        weight, vector = self.weight().double(), self.vector.double()
        scaled = (x * vector) @ weight.T if self.of_inputs else (x @ weight.T) * vector
        return scaled - x @ weight.T


def ia3(stored: Stored) -> Dense:
    """IA³'s form: a row of values is for the inputs, a column for the outputs."""
    vector = stored.take("ia3_l", None, None)
    out, wide = stored.shape
    if tuple(vector.shape) not in ((1, wide), (out, 1)):
        raise broken(f"{stored.path}.ia3_l is {vector.shape[0]}×{vector.shape[1]}")
    of_inputs = tuple(vector.shape) == (1, wide)
    if not of_inputs:
        stored.no_bias("IA³ scales")
    return Scaled(vector=vector.flatten(), of_inputs=of_inputs, weight=stored.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """HiRA: the base weight multiplied elementwise by a low-rank matrix.

    Source: peft 0.21.2, tuners/hira/layer.py, `Linear.forward`.

    Attributes:
        a: float `[r, in]`.
        b: float `[out, r]`.
        weight: loads the base weight, float `[out, in]`.
    """

    a: "Tensor"
    b: "Tensor"
    weight: "Callable[[], Tensor]"

    def delta(self) -> "Tensor":
        """The elementwise product."""
        return self.weight().double() * (self.b.double() @ self.a.double())

    def update(self, x: "Tensor") -> "Tensor":
        """One rank at a time: `Σᵢ bᵢ ⊙ W₀ (aᵢ ⊙ x)`."""
        weight = self.weight().double()
        total = x.new_zeros(x.shape[0], weight.shape[0])
        for row, column in zip(self.a.double(), self.b.double().T, strict=True):
            total += ((x * row) @ weight.T) * column
        return total


def hira(stored: Stored) -> Dense:
    """HiRA's form."""
    out, wide = stored.shape
    a = stored.take("hira_A", None, wide)  # PEFT 0.21.2 saves other ranks than its rank_pattern says
    return Masked(a=a, b=stored.take("hira_B", out, a.shape[0]), weight=stored.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circulant:
    """C3A: blocks of circulant matrices, applied by Fourier transforms.

    Source: peft 0.21.2, tuners/c3a/utils.py, `BlockCircularConvolution`; arXiv 2407.19342.

    Attributes:
        kernels: float `[out / size, in / size, size]`.
    """

    kernels: "Tensor"

    def delta(self) -> "Tensor":
        """Entry (u, t) of a block is its kernel at t − u, over the number of inputs."""
        import torch

        rows, columns, size = self.kernels.shape
        place = torch.arange(size)
        blocks = self.kernels.double()[:, :, (place[None, :] - place[:, None]) % size]
        return blocks.permute(0, 2, 1, 3).reshape(rows * size, columns * size) / (columns * size)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward."""
        import torch

        columns, size = self.kernels.shape[1:]
        grid = torch.fft.ifft(x.view(-1, columns, size))
        mixed = torch.einsum("lnb,mnb->lmb", grid, torch.fft.fft(self.kernels.double()))
        back: Tensor = torch.fft.fft(mixed).real.flatten(1)
        return back / (columns * size)


def c3a(stored: Stored) -> Dense:
    """C3A's form."""
    kernels = stored.take("c3a_kernel", None, None, None)
    if (kernels.shape[0] * kernels.shape[2], kernels.shape[1] * kernels.shape[2]) != stored.shape:
        raise broken(f"{stored.path}: kernels {tuple(kernels.shape)} do not make up {stored.shape}")
    return Circulant(kernels=kernels)
