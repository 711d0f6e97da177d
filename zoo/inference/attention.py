"""Attention of a short suffix on a long cache: grouped heads packed, the cache read in parts side by side.

The usual kernels give one block of work a head. A suffix has few rows, so a long cache would be read by a
few of a GPU's multiprocessors while the others wait. Here the query heads that share keys are packed into
one block's rows, and the cache is cut into parts whose results are joined by their log-sum-exp.
Source: Flash-Decoding, Dao et al. 2023, "Split-KV"; torch's own memory-efficient kernel computes the parts.
"""

from typing import TYPE_CHECKING, Any

from zoo.errors import DefectError

if TYPE_CHECKING:
    from torch import Tensor

NAME = "zoo_suffix"
# far below every score, and finite: a part of which nothing is visible then weighs exactly zero, not NaN
HIDDEN = -30_000.0
MOST_PARTS, SHORTEST_PART = 16, 256
MANY_ROWS = 512  # so many rows keep a GPU busy without parts
_UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias", "sliding_window")


def register() -> str:
    """Makes the attention known to transformers; returns the name to set it by."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    return NAME


def attend(
    module: object,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor",
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple["Tensor", None]:
    """Attention as transformers calls it, for one row of a batch and without dropout.

    Args:
        module: the calling layer.
        query: `[1, heads, tokens, head]`.
        key: `[1, shared heads, window, head]`.
        value: like key.
        attention_mask: `packed_mask`'s.
        dropout: not for training.
        scaling: of the scores; by the square root of the head size when None.
        kwargs: what else a layer hands over; nothing that changes the result may be in it.

    Returns:
        `[1, tokens, heads, head]`, and no attention weights.

    Raises:
        DefectError: the layer wants an attention that this is not.
    """
    if wanted := [name for name in _UNKNOWN if kwargs.get(name) is not None]:
        raise DefectError(f"{type(module).__name__} attends with {', '.join(wanted)}")
    _, heads, tokens, width = query.shape
    rows = query.reshape(1, key.shape[1], -1, width)
    count = parts(rows.shape[2], key.shape[2]) if query.is_cuda else 1
    mixed = in_parts(rows, key, value, attention_mask, count=count, scale=scaling)
    return mixed.reshape(1, heads, tokens, -1).transpose(1, 2).contiguous(), None


def packed_mask(slots: "Tensor", window: int, *, heads_shared: int, dtype: Any) -> "Tensor":
    """What each row of packed queries sees: all slots up to its own.

    Args:
        slots: int64 `[tokens]`, where each token's keys and values lie.
        window: slots looked at.
        heads_shared: query heads that share keys.
        dtype: of the queries.

    Returns:
        `[1, 1, heads_shared * tokens, window]`, to be added to the scores.
    """
    import torch

    visible = torch.arange(window, device=slots.device) <= slots[:, None]
    mask = torch.where(visible, 0.0, HIDDEN).to(dtype)
    return mask.repeat(heads_shared, 1)[None, None]


def parts(rows: int, window: int) -> int:
    """Into how many parts a GPU's cache is cut: a power of two that divides the window."""
    count = 1
    while (
        count < MOST_PARTS
        and rows < MANY_ROWS
        and window % (16 * count) == 0  # the kernel reads masks in aligned pieces of 8
        and window // (2 * count) >= SHORTEST_PART
    ):
        count *= 2
    return count


def in_parts(
    query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor", *, count: int, scale: float | None
) -> "Tensor":
    """Attention of `[1, heads, rows, head]` queries with as many key heads, the cache cut into parts.

    Args:
        query: `[1, heads, rows, head]`.
        key: `[1, heads, window, head]`.
        value: like key.
        mask: `[1, 1, rows, window]`, added to the scores.
        count: parts; divides the window.
        scale: of the scores.

    Returns:
        `[1, heads, rows, head]`, in the query's dtype.
    """
    from torch.nn.functional import scaled_dot_product_attention

    if count == 1:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    heads, rows = query.shape[1:3]
    cut = mask.view(rows, count, -1).transpose(0, 1).unsqueeze(1)  # [count, 1, rows, part]
    mixed, level = partial(
        query.expand(count, -1, -1, -1),
        _cut(key, count),
        _cut(value, count),
        cut.expand(-1, heads, -1, -1),
        scale,
    )
    # the softmax kernel for a last dimension is the faster one
    weights = level.permute(1, 2, 0).softmax(dim=-1).permute(2, 0, 1).unsqueeze(-1)
    return (mixed * weights).sum(dim=0, keepdim=True).to(query.dtype)


def partial(
    query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor", scale: float | None
) -> tuple["Tensor", "Tensor"]:
    """One kernel call over all parts: each part's result `[parts, heads, rows, head]` and log-sum-exp.

    The second is float32 `[parts, heads, rows]`. torch has no public function that gives it; this operator
    is the one that its autograd calls.
    """
    import torch

    kernel = torch.ops.aten._scaled_dot_product_efficient_attention
    mixed, level, *_ = kernel(query, key, value, mask, True, scale=scale)
    return mixed, level[..., : query.shape[2]]  # the kernel pads the rows


def _cut(cache: "Tensor", count: int) -> "Tensor":
    """`[1, heads, window, head]` as `[count, heads, window / count, head]`, without copying."""
    _, heads, window, width = cache.shape
    # `view` raises where it would have to copy; a window of a larger buffer can be cut in place
    return cache[0].view(heads, count, window // count, width).transpose(0, 1)
