"""Maps of low rank in closed form, and how they are put into an adapter's factors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MORE, TURNS = 8, 12  # directions beside those that are wanted, and how often they are turned towards them


def leading(left: "Tensor", right: "Tensor", rank: int) -> "Tensor":
    """The eigenvectors of `left.T @ right` with the largest eigenvalues, by subspace iteration.

    A whole decomposition takes minutes where a layer is wide.
    Source: Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4; the numbers it begins with are
    the same in every run.

    Args:
        left: float64 `[any, wide]`.
        right: float64 `[any, wide]`, such that the product is symmetric and has no negative eigenvalue.
        rank: how many.

    Returns:
        float64 `[wide, rank]`, orthonormal columns, fewer where `wide` is less.
    """
    import torch

    wide = right.shape[1]
    numbers = torch.Generator().manual_seed(0)
    directions = torch.randn(wide, min(rank + MORE, wide), generator=numbers).to(right)
    for _ in range(TURNS):
        directions = torch.linalg.qr(left.T @ (right @ directions)).Q
    inner = (left @ directions).T @ (right @ directions)
    turns = torch.linalg.eigh((inner + inner.T) / 2).eigenvectors[:, -rank:]
    found: Tensor = directions @ turns
    return found


def put(layer: Any, parts: "Sequence[tuple[Tensor, Tensor]]") -> None:
    """Makes a sum of products `b @ a` the update of a layer: at its rank, what is nearest to the sum.

    Args:
        layer: as PEFT wrapped it, with one active adapter.
        parts: float64 `[any, in]` and `[out, any]` each.
    """
    import torch

    (name,) = layer.active_adapters
    old_a, old_b = layer.lora_A[name].weight, layer.lora_B[name].weight
    q_b, r_b = torch.linalg.qr(torch.cat([b for _, b in parts], dim=1))
    q_a, r_a = torch.linalg.qr(torch.cat([a for a, _ in parts]).T)
    u, s, vt = torch.linalg.svd(r_b @ r_a.T)
    rank = old_a.shape[0]
    roots = s[:rank].sqrt()
    new_a, new_b = roots[:, None] * (q_a @ vt[:rank].T).T, (q_b @ u[:, :rank]) * roots
    old_a.zero_()[: len(roots)] = new_a
    old_b.zero_()[:, : len(roots)] = new_b / layer.scaling[name]


def held(layer: Any) -> "tuple[Tensor, Tensor]":
    """A layer's update as one product: float64 `[rank, in]` and `[out, rank]`, the scaling in the latter."""
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return a.double(), b.double() * layer.scaling[name]
