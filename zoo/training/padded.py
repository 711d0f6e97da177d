"""Passes of any base by transformers' own cache, padded to the longest row: slower, for every attention."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError
from zoo.peft_model import forward

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache

    from zoo.training.entry import Layers


def record(
    model: "PeftModel",
    ids: Sequence[int],
    pieces: "Sequence[Layers]",
    *,
    adapted: bool,
) -> "Layers":
    """Keys and values of a run of tokens, without gradients.

    Args:
        model: base and adapter.
        ids: the run, not empty.
        pieces: what it continues.
        adapted: whether the adapter acts.

    Returns:
        Per layer, keys and values `[kv_heads, tokens, head]`.

    Raises:
        UndecidedError: the base keeps something else than keys and values of every token.
    """
    import torch

    device = next(model.parameters()).device
    cache, _ = joined([pieces], device)
    before = sum(piece[0][0].shape[1] for piece in pieces)
    with torch.no_grad():
        forward(
            model,
            torch.tensor([ids], device=device),
            offsets=[len(ids) if adapted else None],
            cache=cache,
            logits_to_keep=1,
        )
    return [_cut(layer, before, len(ids)) for layer in cache.layers]


def joined(rows: "Sequence[Sequence[Layers]]", device: "Any") -> "tuple[DynamicCache, Tensor]":
    """A fresh cache of several prefixes, padded on the left, and its attention mask.

    Args:
        rows: pieces of each prefix.
        device: where the model runs.

    Returns:
        The cache, keys and values `[rows, kv_heads, longest, head]`, and int64 `[rows, longest]`.
    """
    import torch
    from transformers import DynamicCache

    # without the base's config every layer keeps all tokens, also one with a sliding window: the mask
    # hides what is out of its sight
    cache = DynamicCache()
    lengths = [sum(piece[0][0].shape[1] for piece in pieces) for pieces in rows]
    longest = max(lengths)
    if longest:
        shapes = next(pieces for pieces in rows if pieces)[0]
        for layer, pair in enumerate(shapes):
            both = []
            for part, like in enumerate(pair):
                whole = like.new_zeros(len(rows), like.shape[0], longest, like.shape[2])
                for row, pieces in enumerate(rows):
                    begin = longest - lengths[row]
                    for piece in pieces:
                        tensor = piece[layer][part]
                        whole[row, :, begin : begin + tensor.shape[1]] = tensor
                        begin += tensor.shape[1]
                both.append(whole.to(device))
            cache.update(both[0], both[1], layer)
    mask = torch.tensor([[0] * (longest - n) + [1] * n for n in lengths], dtype=torch.int64)
    return cache, mask.reshape(len(rows), longest).to(device)


def logits(
    model: "PeftModel",
    runs: Sequence[Sequence[int]],
    pieces: "Sequence[Sequence[Layers]]",
    keep: Sequence[Sequence[int]],
    *,
    adapted: bool,
) -> "Tensor":
    """Logits at some tokens of some runs; arguments and result as `zoo.training.packed.logits`."""
    import torch

    cache, mask = joined(pieces, next(model.parameters()).device)
    device, width = mask.device, max(map(len, runs))
    ids = torch.tensor([[*run, *[run[-1]] * (width - len(run))] for run in runs], device=device)
    real = torch.tensor([[1] * len(run) + [0] * (width - len(run)) for run in runs], device=device)
    found = forward(
        model,
        ids,
        offsets=[width if adapted else None] * len(runs),
        attention_mask=torch.cat([mask, real], dim=1),
        position_ids=mask.sum(dim=1, keepdim=True) + torch.arange(width, device=device),
        cache=cache,
    )
    return torch.cat([found[row, list(kept)] for row, kept in enumerate(keep)])


def _cut(layer: Any, before: int, width: int) -> "tuple[Tensor, Tensor]":
    """One layer's keys and values after those it had; all `width` tokens must be there."""
    keys = getattr(layer, "keys", None)
    if keys is None or keys.shape[2] != before + width:
        raise UndecidedError(
            "this base keeps a recurrent state beside its KV cache: its prefixes cannot be stored",
            hint="choose a base with attention in every layer",
        )
    return keys[0, :, before:], layer.values[0, :, before:]
