"""VB-LoRA and UniLoRA: factors put together from one bank of vectors, or numbers, that all modules share."""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor

_MAX_ENTRIES = 2**31


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Projected:
    """UniLoRA: every entry of both factors is one of a few shared numbers, scaled by how often it is used.

    The factors are its own definition, so the forward takes another route.
    Source: peft 0.21.2, tuners/unilora/layer.py, `_get_lora_matrices`; arXiv 2506.00799.

    Attributes:
        numbers: float `[d]`.
        places: which number each entry is; int64 `[r, in]` and `[out, r]`.
        scales: what multiplies each entry; float, of the same shapes.
    """

    numbers: "Tensor"
    places: "tuple[Tensor, Tensor]"
    scales: "tuple[Tensor, Tensor]"

    def low_rank(self) -> LowRank:
        """The entries in their places."""
        a, b = (
            self.numbers.double()[places] * scales.double()
            for places, scales in zip(self.places, self.scales, strict=True)
        )
        return LowRank(a=a, b=b, scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """One rank at a time, without putting a factor together."""
        numbers, total = self.numbers.double(), x.new_zeros(x.shape[0], self.places[1].shape[0])
        (down, up), (thin, tall) = self.places, self.scales
        for row in range(down.shape[0]):
            hidden = (x * thin[row].double()) @ numbers[down[row]]
            total += hidden[:, None] * (numbers[up[:, row]] * tall[:, row].double())
        return total


def unilora(stored: Stored) -> Form:
    """UniLoRA's form; places that were not saved are drawn again from `proj_seed`, for all modules in a row.

    Raises:
        RefusedError: ZV016, places outside of the shared numbers.
    """
    out, wide = stored.shape
    r = stored.rank
    numbers = stored.take("unilora_theta_d", int(stored.number("theta_d_length", 256)))
    if "unilora_indices_A" in stored.tensors:
        down, up = stored.take("unilora_indices_A", r, wide), stored.take("unilora_indices_B", out, r)
        thin, tall = stored.take("unilora_scales_A", r, wide), stored.take("unilora_scales_B", out, r)
    else:
        down, up, thin, tall = _drawn(stored, r, len(numbers))
    if min(int(down.min()), int(up.min())) < 0 or max(int(down.max()), int(up.max())) >= len(numbers):
        raise broken(f"the indices of {stored.path} leave the shared numbers")
    return Projected(numbers=numbers, places=(down.long(), up.long()), scales=(thin, tall))


def _drawn(stored: Stored, r: int, length: int) -> "tuple[Tensor, Tensor, Tensor, Tensor]":
    """This module's places among all, and one over the root of how often each number is used."""
    sizes = [r * (out + wide) for out, wide in stored.among]
    if r < 1 or length < 1 or sum(sizes) > _MAX_ENTRIES:
        raise broken(f"{sum(sizes)} entries of {length} numbers")
    places, scales = _dealt(sum(sizes), length, int(stored.number("proj_seed", 42)))
    out, wide = stored.shape
    start = sum(sizes[: stored.index])
    down = places[start : start + r * wide].view(r, wide)
    up = places[start + r * wide : start + sizes[stored.index]].view(out, r)
    return down, up, scales[down], scales[up]


@lru_cache(maxsize=1)
def _dealt(count: int, length: int, seed: int) -> "tuple[Tensor, Tensor]":
    """Every number as often as every other, give or take one, shuffled.

    Source: peft 0.21.2, tuners/unilora/model.py, `generate_index` and `_assign_unilora_indices_and_scales`.
    """
    import numpy as np
    import torch

    generator = np.random.default_rng(seed)
    dealt = np.repeat(np.arange(length), count // length)
    if count % length:
        dealt = np.concatenate([dealt, generator.choice(length, size=count % length, replace=False)])
    generator.shuffle(dealt)
    places = torch.as_tensor(dealt, dtype=torch.long)
    used = torch.bincount(places, minlength=length)
    scales = torch.where(used > 0, used.float().rsqrt(), torch.zeros(length))
    return places, scales
