"""The rank of weights in normal form: raised exactly, so that there is more to train and nothing changes.

Source: PEFT 0.21.2, tuners/lora/layer.py, `reset_lora_parameters`, for how new rows of A are drawn.
"""

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

A, B = ".lora_A.", ".lora_B."


def rank_of(weights: Mapping[str, "Tensor"]) -> int:
    """The common rank of weights in normal form."""
    return next(tensor.shape[0] for name, tensor in weights.items() if A in name)


def check_growth(before: int, rank: int) -> None:
    """Refuses a growth that is none.

    Raises:
        UsageError: `rank` is lower than the rank before.
    """
    if rank < before:
        raise UsageError(
            f"the weights have rank {before}: growing to {rank} would lose a part of them",
            hint=f"give a rank of at least {before}",
        )


def grow(weights: Mapping[str, "Tensor"], rank: int, *, seed: int = 0) -> dict[str, "Tensor"]:
    """Weights of a higher rank that compute exactly the same update.

    A gets fresh rows, so that B's new columns have gradients; those columns are zero, so that `B @ A` is what
    it was. Each module's rows depend on the seed and its name alone.

    Args:
        weights: by PEFT file key, in normal form (scale 1): A `[rank, in]`, B `[out, rank]`.
        rank: the new one; the scale stays 1, so `lora_alpha` is to be this too.
        seed: of the new rows.

    Returns:
        By the same keys, in the same dtypes.

    Raises:
        UsageError: `rank` is lower than that of the weights.
    """
    import torch

    check_growth(rank_of(weights), rank)
    grown: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if A in name:
            rows = fresh_rows(name, rank - tensor.shape[0], tensor.shape[1], seed=seed)
            grown[name] = torch.cat([tensor, rows.to(tensor)], dim=0)
        else:
            columns = tensor.new_zeros(tensor.shape[0], rank - tensor.shape[1])
            grown[name] = torch.cat([tensor, columns], dim=1)
    return grown


def fresh_rows(name: str, count: int, wide: int, *, seed: int) -> "Tensor":
    """New rows of an A, float32 `[count, wide]`: kaiming_uniform with a = sqrt(5), within 1 / sqrt(wide).

    Args:
        name: of the tensor; with the seed it decides the numbers.
        count: of rows.
        wide: of the input.
        seed: of all tensors.
    """
    import torch

    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))
    rows: Tensor = (2 * torch.rand(count, wide, generator=generator) - 1) / wide**0.5
    return rows
