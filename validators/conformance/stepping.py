"""Running a model over token ids: in one call, in chunks, from a cache, in batches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel


class Step(Protocol):
    """One forward call of some model: raw logits for the tokens given, the cache extended in place."""

    def __call__(self, ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        """Takes one call.

        Args:
            ids: int64 `[batch, tokens]`, the tokens after those in `cache`.
            cache: KV of earlier tokens.

        Returns:
            Logits `[batch, tokens, vocabulary]`, in the model's dtype.
        """


def run_base(
    model: "PreTrainedModel",
    ids: "Tensor",
    cache: "DynamicCache",
    *,
    attention_mask: "Tensor | None" = None,
    position_ids: "Tensor | None" = None,
    logits_to_keep: int = 0,
) -> "Tensor":
    """The base model's raw logits, called with the same arguments as PEFT's and the reference's model.

    Args:
        model: the pristine base.
        ids: int64 `[batch, tokens]`.
        cache: KV of earlier tokens; extended in place.
        attention_mask: int64 `[batch, cached + tokens]`.
        position_ids: int64 `[batch, tokens]`.
        logits_to_keep: compute logits for this many last positions; 0 is all.

    Returns:
        Logits `[batch, kept, vocabulary]`, in the model's dtype.
    """
    import torch

    with torch.no_grad():
        output = model(
            input_ids=ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )
    logits: Tensor = output.logits
    return logits


def in_chunks(step: Step, ids: "Tensor", sizes: Sequence[int], cache: "DynamicCache") -> "Tensor":
    """Runs ids in consecutive calls of the given sizes.

    Args:
        step: the model.
        ids: int64 `[batch, tokens]`.
        sizes: tokens of each call; they add up to `tokens`.
        cache: extended in place.

    Returns:
        Logits `[batch, tokens, vocabulary]`; `[batch, 0, 0]` for no tokens.
    """
    import torch

    if not sizes:
        return torch.empty(ids.shape[0], 0, 0)
    return torch.cat([step(piece, cache) for piece in torch.split(ids, list(sizes), dim=1)], dim=1)


def chunkings(length: int) -> dict[str, list[int]]:
    """Ways to prefill `length` tokens, by name: whole, in up to 16 equal pieces, in two unequal parts.

    Pieces have at least 16 tokens: a long prefix in tiny ones would cost a call each and show no more.
    Ways that come out the same are given once.
    """
    ways = {"whole": [length]}
    if length > 16:
        size = max(16, -(-length // 16))
        ways[f"pieces of {size}"] = [size] * (length // size) + ([length % size] if length % size else [])
    if length >= 3:
        ways["two parts"] = [2 * length // 3, length - 2 * length // 3]
    return ways


def log_probs(logits: "Tensor") -> "Tensor":
    """Log-probabilities in float32 (float64 for a float64 model), same shape."""
    import torch

    return torch.log_softmax(logits.to(torch.promote_types(torch.float32, logits.dtype)), dim=-1)


def padded(
    rows: Sequence[Sequence[int]], *, pad_id: int, left: bool
) -> tuple[list[list[int]], list[list[int]]]:
    """Rows filled up to the longest one, and their attention masks with 1 at each real token."""
    width = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        fill = width - len(row)
        ids.append([pad_id] * fill + list(row) if left else list(row) + [pad_id] * fill)
        mask.append([0] * fill + [1] * len(row) if left else [1] * len(row) + [0] * fill)
    return ids, mask


def positions(attention_mask: "Tensor") -> "Tensor":
    """Position ids of real tokens counted from 0; int64, of the mask's shape. Padding gets position 0."""
    return (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
