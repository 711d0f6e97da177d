"""Attention with gradients of rows of a few tokens on long stored prefixes, kernel by kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.training.node import node

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.entry import Layers


JOINED = 128  # tokens of rows that are taken as one
CACHED = 512  # tokens of rows whose masks are remembered: those of whole prompts would take gigabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a packed pass, or several neighbours that continue the same prefix.

    Attributes:
        begin: where its tokens begin in the line.
        end: where they end.
        pieces: of its prefix, in order; each by layer, keys and values `[kv_heads, tokens, head]`.
        runs: tokens of each of several, which see the prefix and not each other; empty is one.
    """

    begin: int
    end: int
    pieces: Sequence["Layers"] = ()
    runs: tuple[int, ...] = ()

    @property
    def before(self) -> int:
        """Tokens of its prefix."""
        return sum(piece[0][0].shape[1] for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a layer attends.

    Attributes:
        scale: of the scores.
        window: a token sees this many tokens, itself included; None is all of them.
        softcap: scores are squashed to this by tanh; None leaves them.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None


def run_rows(
    query: "Tensor", key: "Tensor", value: "Tensor", rows: Sequence[Row], rule: Rule, layer: int
) -> "Tensor":
    """Attention of every row to its prefix and its own earlier tokens.

    Args:
        query: `[heads, tokens, head]`.
        key: `[kv_heads, tokens, head]`; each serves as many neighbouring heads.
        value: `[kv_heads, tokens, value head]`.
        rows: which tokens belong together, and their prefixes.
        rule: of this layer.
        layer: which layer of the prefixes.

    Returns:
        `[heads, tokens, value head]` in the query's dtype; the softmax is computed in float32.
    """
    pieces = [
        [visible(piece[layer], before, total, rule.window) for piece, before, total in _places(row)]
        for row in rows
    ]
    spans = [(row.begin, row.end, row.runs or (row.end - row.begin,)) for row in rows]
    # one node of the graph for a whole layer: one for each operation would cost more than they do
    found: Tensor = node(_attend, _attend_back)(query, key, value, spans, pieces, rule)
    return found


def visible(
    piece: "tuple[Tensor, Tensor]", before: int, total: int, window: int | None
) -> "tuple[Tensor, Tensor, int]":
    """What a window lets a row see of one piece of its prefix: keys, values, the first key's distance.

    Args:
        piece: keys and values `[kv_heads, tokens, head]`.
        before: tokens of the prefix before this piece.
        total: tokens of the prefix.
        window: see `Rule`.

    Returns:
        Views, and how far before the row's first token the first of them stands.
    """
    key, value = piece
    hidden = 0 if window is None else min(key.shape[1], max(0, total - window + 1 - before))
    return key[:, hidden:], value[:, hidden:], total - before - hidden


def _attend(
    ctx: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    spans: list[tuple[int, int, tuple[int, ...]]],
    pieces: "list[list[tuple[Tensor, Tensor, int]]]",
    rule: Rule,
) -> "Tensor":
    import torch

    heads, tokens, _ = query.shape
    groups = heads // key.shape[0]
    scaled = (query * rule.scale).reshape(key.shape[0], groups, tokens, -1)
    out = query.new_empty(key.shape[0], groups, tokens, value.shape[-1])
    kept: list[Tensor] = []
    for (begin, end, runs), prefix in zip(spans, pieces, strict=True):
        q, size = scaled[:, :, begin:end].flatten(1, 2), end - begin
        own_k, own_v = key[:, begin:end], value[:, begin:end]
        own = _scores(q, own_k, 0, runs, Rule(scale=1.0, softcap=rule.softcap))
        own = _seen(own, runs, rule.window)
        scores = torch.cat([*(_scores(q, k, far, runs, rule) for k, _, far in prefix), own], dim=-1)
        chances = torch.softmax(scores, dim=-1).to(query.dtype)
        kept.extend((chances, scores) if rule.softcap is not None else (chances,))
        parts = torch.split(chances, [*(k.shape[1] for k, _, _ in prefix), size], dim=-1)
        total = parts[-1] @ own_v
        for part, (_, v, _) in zip(parts, prefix, strict=False):
            total = torch.baddbmm(total, part, v)
        out[:, :, begin:end] = total.view(total.shape[0], groups, size, -1)
    ctx.save_for_backward(scaled, key, value, *kept)
    ctx.spans, ctx.pieces, ctx.rule = spans, pieces, rule
    return out.flatten(0, 1)


def _attend_back(ctx: Any, *grads: "Tensor") -> "tuple[Tensor | None, ...]":
    import torch

    scaled, key, value, *kept = ctx.saved_tensors
    groups, rule, rest = scaled.shape[1], ctx.rule, iter(kept)
    wanted = grads[0].reshape(*scaled.shape[:3], -1)
    grad_q, grad_k, grad_v = torch.empty_like(scaled), torch.empty_like(key), torch.empty_like(value)
    for (begin, end, _), prefix in zip(ctx.spans, ctx.pieces, strict=True):
        chances, size = next(rest), end - begin
        q, wish = scaled[:, :, begin:end].flatten(1, 2), wanted[:, :, begin:end].flatten(1, 2)
        own_k, own_v = key[:, begin:end], value[:, begin:end]
        slope = torch.cat([*(wish @ v.mT for _, v, _ in prefix), wish @ own_v.mT], dim=-1).float()
        slope = torch._softmax_backward_data(slope, chances.float(), -1, torch.float32)
        if rule.softcap is not None:
            # an unseen score is -inf and has no slope already
            slope = slope * (1 - (next(rest) / rule.softcap).clamp(-1, 1).square())
        slope = slope.to(scaled.dtype)
        parts = torch.split(slope, [*(k.shape[1] for k, _, _ in prefix), size], dim=-1)
        total = parts[-1] @ own_k
        for part, (k, _, _) in zip(parts, prefix, strict=False):
            total = torch.baddbmm(total, part, k)
        grad_q[:, :, begin:end] = total.view(total.shape[0], groups, size, -1)
        grad_k[:, begin:end] = parts[-1].mT @ q  # the heads of a group are summed by the product
        grad_v[:, begin:end] = chances[..., -size:].mT @ wish
    return (grad_q * rule.scale).flatten(0, 1), grad_k, grad_v, None, None, None


def _places(row: Row) -> "list[tuple[Any, int, int]]":
    """A row's pieces with the tokens before each and those of all."""
    sizes = [piece[0][0].shape[1] for piece in row.pieces]
    total = sum(sizes)
    return [(piece, sum(sizes[:index]), total) for index, piece in enumerate(row.pieces)]


def _scores(q: "Tensor", k: "Tensor", far: int, runs: tuple[int, ...], rule: Rule) -> "Tensor":
    """Scores of one row's tokens on one piece, float32, -inf where the window ends before."""
    import torch

    scores = (q @ k.mT).float()
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    if rule.window is None or far + max(runs) <= rule.window:
        return scores
    here = torch.cat([torch.arange(size, device=q.device) for size in runs])[:, None] + far
    unseen = here - torch.arange(k.shape[1], device=q.device)[None] >= rule.window
    return scores.masked_fill(unseen.repeat(q.shape[1] // unseen.shape[0], 1), -torch.inf)


def _seen(scores: "Tensor", runs: tuple[int, ...], window: int | None) -> "Tensor":
    """A row's scores on its own tokens `[kv_heads, groups * tokens, tokens]`, -inf where none is seen."""
    made = _causal if sum(runs) <= CACHED else _causal.__wrapped__
    hidden = made(runs, window, scores.device)
    size = hidden.shape[0]
    return (scores.view(scores.shape[0], -1, size, size) + hidden).view_as(scores)


@lru_cache(maxsize=128)
def _causal(runs: tuple[int, ...], window: int | None, device: Any) -> "Tensor":
    """What is added to the scores of one head of a group, float32 `[tokens, tokens]`."""
    import torch

    here = torch.arange(sum(runs), device=device)
    run = torch.cat([torch.full((size,), place, device=device) for place, size in enumerate(runs)])
    distance = here[:, None] - here[None]
    unseen = (distance < 0) | (run[:, None] != run[None])
    if window is not None:
        unseen |= distance >= window
    return torch.zeros(unseen.shape, device=device).masked_fill_(unseen, -torch.inf)


def joined(rows: Sequence[Row]) -> tuple[list[Row], list[int]]:
    """Rows that continue the same prefix as one, which reads its keys and values once.

    Args:
        rows: of a line, one run each.

    Returns:
        Fewer rows, and the order in which they want the line's tokens; empty where it stays as it is.
    """
    alike: dict[Any, list[Row]] = {}
    held: dict[Any, int] = {}
    for row in rows:
        place = tuple(map(id, row.pieces)) or id(row)
        count, size = held.get(place, 0), row.end - row.begin
        # each scores the others' tokens too, for nothing: of few they cost less than another pass
        used = sum(one.end - one.begin for one in alike.get((place, count), ()))
        if used and used + size > JOINED:
            held[place] = count = count + 1
        alike.setdefault((place, count), []).append(row)
    if len(alike) == len(rows):
        return list(rows), []
    found: list[Row] = []
    order: list[int] = []
    for members in alike.values():
        begin = len(order)
        order += [token for row in members for token in range(row.begin, row.end)]
        sizes = tuple(row.end - row.begin for row in members)
        found.append(Row(begin=begin, end=len(order), pieces=members[0].pieces, runs=sizes))
    return found, order
