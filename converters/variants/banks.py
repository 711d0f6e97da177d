"""VB-LoRA: factors put together from one bank of vectors that all modules share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Which vectors each piece of a factor mixes, and how much of each.

    Attributes:
        indices: int64 `[…, k]`.
        shares: float64 `[…, k]`, of sum 1.
    """

    indices: "Tensor"
    shares: "Tensor"

    def of(self, bank: "Tensor") -> "Tensor":
        """The mixed vectors: float64 `[…, length]`."""
        return (self.shares.unsqueeze(-1) * bank.double()[self.indices]).sum(-2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Banked:
    """VB-LoRA's update; its low-rank factors are its own definition, so the forward takes another route.

    Source: peft 0.21.2, tuners/vblora/layer.py, `_get_lora_matrices`; arXiv 2405.15179, eq. 4.

    Attributes:
        bank: float `[vectors, length]`.
        down: pieces of a, `[r, in / length, k]`.
        up: pieces of b, `[out / length, r, k]`.
    """

    bank: "Tensor"
    down: Mixture
    up: Mixture

    def low_rank(self) -> LowRank:
        """The pieces side by side."""
        a = self.down.of(self.bank).flatten(1)
        b = self.up.of(self.bank).transpose(1, 2).flatten(0, 1)
        return LowRank(a=a, b=b, scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """Piece by piece, without putting a factor together."""
        import torch

        pieces = x.view(x.shape[0], -1, self.bank.shape[1])
        hidden = torch.einsum("ntl,rtl->nr", pieces, self.down.of(self.bank))
        return torch.einsum("nr,trl->ntl", hidden, self.up.of(self.bank)).flatten(1)


def vblora(stored: Stored) -> Form:
    """VB-LoRA's form, from logits or from the saved top-k.

    Raises:
        RefusedError: ZV016, pieces that do not fit, or indices outside the bank.
    """
    out, wide = stored.shape
    bank = stored.take("vblora_vector_bank", None, None)
    length = bank.shape[1]
    down, up = _mixture(stored, "vblora_logits_A", bank), _mixture(stored, "vblora_logits_B", bank)
    rows, columns = down.indices.shape[:2], up.indices.shape[:2]
    stored.agree(rows[0])
    if rows[1] * length != wide or columns[0] * length != out or rows[0] != columns[1]:
        raise broken(f"{stored.path}: vectors of {length} do not make up {out}×{wide}")
    return Banked(bank=bank, down=down, up=up)


def _mixture(stored: Stored, part: str, bank: "Tensor") -> Mixture:
    import torch

    if part in stored.tensors:
        logits = stored.take(part, None, None, bank.shape[0]).double()
        k = int(stored.number("topk", 2))
        if not 0 < k <= bank.shape[0]:
            raise broken(f"topk is {k}")
        best, indices = logits.topk(k, dim=-1)
        return Mixture(indices=indices, shares=torch.softmax(best, dim=-1))
    indices = stored.take(f"{part}_topk_indices", None, None, None).long()
    shares = stored.take(f"{part}_topk_weights", *indices.shape[:2], indices.shape[2] - 1).double()
    if indices.min() < 0 or indices.max() >= bank.shape[0]:
        raise broken(f"{stored.path}.{part}_topk_indices leaves the bank")
    last = 1 - shares.sum(-1, keepdim=True)  # the file leaves the last share out
    return Mixture(indices=indices, shares=torch.cat([shares, last], dim=-1))
