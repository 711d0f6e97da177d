"""Methods that work on blocks of the input or the output: GraLoRA, MiSS and Poly."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 1e-12  # Poly's router adds it to a sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Granular:
    """GraLoRA: k blocks of the input, k of the output, and a small LoRA between every two; rank k·r.

    The r hidden values of each input block are dealt out in k parts, one to each output block.
    Source: peft 0.21.2, tuners/gralora/layer.py, `Linear.forward`; arXiv 2505.20355.

    Attributes:
        a: float `[k, in / k, r]`.
        b: float `[k, r, out / k]`.
        general: an ordinary LoRA beside them (`hybrid_r`), or None.
        scale: alpha over the sum of both ranks.
    """

    a: "Tensor"
    b: "Tensor"
    general: LowRank | None
    scale: float

    def low_rank(self) -> LowRank:
        """One hidden value for each (input block, output block, place in its part)."""
        import torch

        a, b = self.a.double(), self.b.double()
        k, width, r = a.shape
        height, part = b.shape[2], r // k
        down = torch.zeros(k, k, part, k, width, dtype=torch.float64)
        up = torch.zeros(k, height, k, k, part, dtype=torch.float64)
        for n in range(k):
            down[n, :, :, n, :] = a[n].T.view(k, part, width)
            up[n, :, :, n, :] = b[n].T.reshape(height, k, part)
        rows, columns = down.view(k * r, k * width), up.view(k * height, k * r)
        if self.general is not None:
            rows = torch.cat([rows, self.general.a.double()])
            columns = torch.cat([columns, self.general.b.double()], dim=1)
        return LowRank(a=rows, b=columns, scale=self.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: down within input blocks, deal out, up within output blocks."""
        import torch

        a, b = self.a.double(), self.b.double()
        k, width, r = a.shape
        hidden = torch.einsum("lni,nir->lnr", x.view(-1, k, width), a)
        dealt = hidden.view(-1, k, k, r // k).permute(0, 2, 1, 3).reshape(-1, k, r)
        result = torch.einsum("ljr,jro->ljo", dealt, b).flatten(1) * self.scale
        return result if self.general is None else result + self.general.update(x) * self.scale


def gralora(stored: Stored) -> Form:
    """GraLoRA's form."""
    out, wide = stored.shape
    a = stored.take("gralora_A", None, None, None)
    k, width, r = a.shape
    stored.agree(r)
    if width * k != wide or r % k:
        raise broken(f"{stored.path}: {k} blocks of {width} inputs and rank {r} do not fit")
    hybrid = int(stored.number("hybrid_r", 0))
    general = None
    if hybrid:
        down = stored.take("gralora_A_general", hybrid, wide)
        general = LowRank(a=down, b=stored.take("gralora_B_general", out, hybrid), scale=1.0)
    return Granular(
        a=a,
        b=stored.take("gralora_B", k, r, out // k),
        general=general,
        scale=stored.alpha / (r + hybrid),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summed:
    """MiSS and Bone: inputs with the same remainder modulo r are summed, and one matrix follows.

    Source: peft 0.21.2, tuners/miss/layer.py, `MissLinear.forward`; arXiv 2409.15371.

    Attributes:
        block: float `[r, out]`.
        wide: in_features.
    """

    block: "Tensor"
    wide: int

    def low_rank(self) -> LowRank:
        """The sum as a factor of zeros and ones."""
        import torch

        r = self.block.shape[0]
        place = torch.arange(self.wide)
        a = torch.zeros(r, self.wide, dtype=torch.float64)
        a[place % r, place] = 1.0
        return LowRank(a=a, b=self.block.T, scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: pad, sum, multiply."""
        import torch

        r = self.block.shape[0]
        padded = torch.nn.functional.pad(x, (0, -self.wide % r))
        return padded.reshape(x.shape[0], -1, r).sum(dim=1) @ self.block.double()


def miss(stored: Stored) -> Form:
    """MiSS's form; its mode `bat` multiplies the base weight and is not one of these."""
    out, wide = stored.shape
    part = "miss_block" if "miss_block" in stored.tensors else "bone_block"
    block = stored.take(part, None, None)
    stored.agree(block.shape[0])
    if stored.settings.get("init_weights") == "mini":
        if out % block.shape[1]:
            raise broken(f"{stored.path}: a block of {block.shape[1]} does not divide {out} outputs")
        block = block.repeat(1, out // block.shape[1])
    if block.shape[1] != out or not 0 < block.shape[0] <= wide:
        raise broken(f"{stored.path}.{part} is {block.shape[0]}×{block.shape[1]}")
    return Summed(block=block, wide=wide)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skills:
    """Poly of one task: its skills weighed once and for all, and their factors averaged, in blocks.

    Source: peft 0.21.2, tuners/poly/layer.py, `Linear.forward`, and router.py; arXiv 2202.13914.

    Attributes:
        a: float `[blocks, skills, in / blocks, r]`.
        b: float `[blocks, skills, r, out / blocks]`.
        shares: float64 `[blocks, skills]`.
    """

    a: "Tensor"
    b: "Tensor"
    shares: "Tensor"

    def low_rank(self) -> LowRank:
        """The averaged factors, the blocks one after another."""
        r = self.a.shape[3]
        a = (self.a.double() * self.shares[:, :, None, None]).sum(1).flatten(0, 1).T
        b = (self.b.double() * self.shares[:, :, None, None]).sum(1).transpose(1, 2).flatten(0, 1)
        return LowRank(a=a, b=b, scale=1 / r)

    def update(self, x: "Tensor") -> "Tensor":
        """Skill by skill, block by block."""
        import torch

        blocks, _, width, r = self.a.shape
        hidden = torch.einsum("nqd,qsdr,qs->nr", x.view(-1, blocks, width), self.a.double(), self.shares)
        return torch.einsum("nr,qsro,qs->nqo", hidden, self.b.double(), self.shares).flatten(1) / r


def poly(stored: Stored) -> Form:
    """Poly's form of the only task."""
    out, wide = stored.shape
    blocks, skills = int(stored.number("n_splits", 1)), int(stored.number("n_skills", 4))
    if blocks < 1 or out % blocks or wide % blocks:
        raise broken(f"{blocks} blocks do not divide {stored.path}")
    logits = stored.take("poly_router.module_logits", 1, blocks * skills).double()
    weighed = logits.view(blocks, skills).sigmoid()
    r = stored.rank
    return Skills(
        a=stored.take("poly_lora_A", blocks, skills, wide // blocks, r),
        b=stored.take("poly_lora_B", blocks, skills, r, out // blocks),
        shares=weighed / (weighed.sum(dim=1, keepdim=True) + _EPSILON),
    )
