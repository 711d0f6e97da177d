"""Attention without gradients of long rows: the first and only pass over a prefix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.training.exact import Row, Rule, run_rows

if TYPE_CHECKING:
    from torch import Tensor

SCORES = 1 << 26  # numbers held at once where no kernel of torch's knows the rule


def prefill_rows(
    query: "Tensor", key: "Tensor", value: "Tensor", rows: Sequence[Row], rule: Rule, layer: int
) -> "Tensor":
    """Attention of every row to its prefix and its own earlier tokens; arguments as `run_rows`."""
    import torch

    out = query.new_empty(*query.shape[:2], value.shape[-1])
    for row in rows:
        keys = [piece[layer][0] for piece in row.pieces]
        values = [piece[layer][1] for piece in row.pieces]
        own = slice(row.begin, row.end)
        k = torch.cat([*keys, key[:, own]], dim=1) if keys else key[:, own]
        v = torch.cat([*values, value[:, own]], dim=1) if values else value[:, own]
        out[:, own] = _capped(query[:, own], k, v, rule) if rule.softcap else _run(query[:, own], k, v, rule)
    return out


def _run(query: "Tensor", key: "Tensor", value: "Tensor", rule: Rule) -> "Tensor":
    """One row, its prefix joined to it, by torch's kernels."""
    import torch
    from torch.nn.attention.bias import causal_lower_right
    from torch.nn.functional import scaled_dot_product_attention

    size, total, groups = query.shape[1], key.shape[1], query.shape[0] // key.shape[0]
    windowed = rule.window is not None and total > rule.window
    # with a mask, torch's CUDA kernels do not take fewer key heads than heads (2.13)
    shared = query.is_cuda and not windowed
    if groups > 1 and not shared:
        key, value = key.repeat_interleave(groups, dim=0), value.repeat_interleave(groups, dim=0)
    mask = None
    if windowed:
        here = torch.arange(total - size, total, device=query.device)[:, None]
        distance = here - torch.arange(total, device=query.device)[None]
        mask = (distance >= 0) & (distance < (rule.window or total))
    elif size < total:
        mask = causal_lower_right(size, total)
        if not query.is_cuda:
            mask = torch.ones(size, total, dtype=torch.bool).tril(total - size)
    return scaled_dot_product_attention(
        query[None],
        key[None],
        value[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=rule.scale,
        enable_gqa=shared and groups > 1,
    )[0]


def _capped(query: "Tensor", key: "Tensor", value: "Tensor", rule: Rule) -> "Tensor":
    """One row under a soft cap, which torch's kernels do not know: some queries at a time."""
    import torch

    size, total = query.shape[1], key.shape[1]
    step = max(1, SCORES // (query.shape[0] * total))
    found = []
    for begin in range(0, size, step):
        end = min(size, begin + step)
        seen = total - size + begin
        row = Row(begin=0, end=end - begin, pieces=[[(key[:, :seen], value[:, :seen])]] if seen else ())
        own = slice(seen, total - size + end)
        found.append(run_rows(query[:, begin:end], key[:, own], value[:, own], [row], rule, 0))
    return torch.cat(found, dim=1)
