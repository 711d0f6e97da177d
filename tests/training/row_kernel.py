"""What the kernels of `zoo.training.flash` compute, written out: a double for machines without a GPU."""

from itertools import pairwise

import torch
from torch import Tensor

from zoo.training.flash import Kernel, Lines


def _rows(lines: Lines) -> list[tuple[slice, slice]]:
    marks = [lines.queries.tolist(), lines.keys.tolist()]
    spans = [[slice(a, b) for a, b in pairwise(m)] for m in marks]
    return [(q, k) for q, k in zip(*spans, strict=True) if q.start < q.stop and k.start < k.stop]


def _scores(query: Tensor, key: Tensor, q: slice, k: slice, lines: Lines) -> Tensor:
    scores = torch.einsum("qhd,khd->hqk", query[q], key[k]) * lines.scale
    if lines.causal:
        # the last query sees the last key
        queries, keys = scores.shape[1:]
        unseen = torch.ones(queries, keys, dtype=torch.bool).triu(1 + keys - queries)
        scores = scores.masked_fill(unseen, -torch.inf)
    return scores


def forward(query: Tensor, key: Tensor, value: Tensor, lines: Lines) -> tuple[Tensor, Tensor]:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # rows without keys stay as FlashAttention may leave them
    out = torch.full_like(query, torch.nan)
    lse = torch.full((query.shape[1], query.shape[0]), torch.inf)
    for q, k in _rows(lines):
        assert q.stop - q.start <= lines.longest_query
        assert k.stop - k.start <= lines.longest_key
        scores = _scores(query, key, q, k, lines)
        lse[:, q] = scores.logsumexp(dim=-1)
        out[q] = torch.einsum("hqk,khd->qhd", scores.softmax(dim=-1), value[k])
    return out, lse


def backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, lines: Lines
) -> tuple[Tensor, Tensor, Tensor]:
    grad_q, grad_k, grad_v = torch.full_like(query, torch.nan), torch.zeros_like(key), torch.zeros_like(value)
    for q, k in _rows(lines):
        chances = (_scores(query, key, q, k, lines) - lse[:, q, None]).exp()
        slope = torch.einsum("qhd,khd->hqk", grad[q], value[k])
        slope = chances * (slope - (grad[q] * out[q]).sum(dim=-1).T[..., None]) * lines.scale
        grad_q[q] = torch.einsum("hqk,khd->qhd", slope, key[k])
        grad_k[k] += torch.einsum("hqk,qhd->khd", slope, query[q])
        grad_v[k] += torch.einsum("hqk,qhd->khd", chances, grad[q])
    return grad_q, grad_k, grad_v


DENSE = Kernel(forward=forward, backward=backward)
