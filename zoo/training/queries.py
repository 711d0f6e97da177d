"""Queries in closed form: a token attends to what it attended to in the teacher.

Behind a prefix of the base's keys, queries that were learnt among the LoRA's own find other tokens. To second
order the divergence of two patterns of attention is half the variance, under the teacher's, of the difference
of their scores. That is quadratic in a linear change of the queries, and is least at the solution of one
linear system a head, found by conjugate gradients and cut to the adapter's rank.
Source: Hestenes and Stiefel 1952, preconditioned as in Martens and Grosse 2015, arXiv 1503.05671 (the
curvature as a Kronecker product of means). For aLoRA our own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.training.low_rank import held, leading, put
from zoo.training.residual import OFF

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.exact import Row, Rule

RIDGE = 0.03  # of the mean curvature times the mean square of an input
LEAST = 0.03  # of the ridge of the head with the most: a head that attends to one token has no curvature
TURNS = 12  # of conjugate gradients
HELD = 2 << 30  # bytes of curvatures of a layer, at most
_PRODUCT = 1 << 26  # numbers of an intermediate product


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What one layer asked in a pass of packed rows.

    Attributes:
        given: what the query projection was given, `[tokens, in]`.
        made: what it made of it, `[tokens, heads * head]`.
        query: what was scored, `[heads, tokens, head]`.
        key: of the line, `[kv_heads, tokens, head]`.
        rule: of the layer.
        turn: cosines and sines `[tokens, turned]` by which positions turn a query; None if they do not.
    """

    given: "Tensor"
    made: "Tensor"
    query: "Tensor"
    key: "Tensor"
    rule: "Rule"
    turn: "tuple[Tensor, Tensor] | None"

    @property
    def linear(self) -> bool:
        """Whether what was scored is what the projection made, turned by positions and nothing else."""
        heads, tokens, wide = self.query.shape
        if self.made.numel() != self.query.numel():
            return False
        made = self.made.view(tokens, heads, wide).transpose(0, 1).float()
        there = _turned(made, self.turn, back=False)
        off = float((there - self.query.float()).norm() / self.query.float().norm().clamp_min(1e-30))
        return off <= OFF.get(str(self.query.dtype).removeprefix("torch."), 0.0)


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The quadratic of a layer, summed over tokens, float32.

    Attributes:
        inputs: `[tokens, in]`.
        curvature: `[tokens, heads, head, head]`.
        slope: `[tokens, heads, head]`.
    """

    inputs: "Tensor"
    curvature: "Tensor"
    slope: "Tensor"

    @cached_property
    def across(self) -> "tuple[Tensor, Tensor]":
        """Eigenvalues, none negative, and vectors of the inputs' mean product: float64 `[in]`, `[in, in]`."""
        return _spectrum((self.inputs.T @ self.inputs).double() / len(self.inputs))

    @cached_property
    def bent(self) -> "tuple[Tensor, Tensor]":
        """Those of each head's mean curvature: float64 `[heads, head]`, `[heads, head, head]`."""
        mean = self.curvature.mean(dim=0).double()
        return _spectrum((mean + mean.mT) / 2)


def chances(query: "Tensor", key: "Tensor", row: "Row", rule: "Rule", layer: int) -> "Tensor | None":
    """The logarithm of how a row's tokens attend, float32 `[heads, tokens, seen]`.

    Args:
        query: of the line, `[heads, tokens, head]`.
        key: of the line, `[kv_heads, tokens, head]`.
        row: which tokens, and their prefix.
        rule: of the layer.
        layer: which.

    Returns:
        None where tokens do not see all earlier ones, or scores are squashed: not fitted.
    """
    if rule.window is not None or rule.softcap is not None:
        return None
    found: Tensor = _scores(query, _keys(query, key, row, layer), row, rule).log_softmax(dim=-1)
    return found


def fit(layer: Any, number: int, seen: "Iterable[tuple[Asked, Sequence[Row], dict[int, Tensor]]]") -> bool:
    """Sets a query projection's update so that its tokens attend as the teacher's.

    Args:
        layer: the projection, as PEFT wrapped it.
        number: of the layer.
        seen: per batch what was asked, its rows, and the teacher's `chances` by place of a row.

    Returns:
        Whether it was set: not where queries are more than turned, or no change of any rank gains anything.
    """
    found = _gathered(number, seen)
    if found is None:
        return False
    change = _solved(found)
    if change is None:
        return False
    a, b = held(layer)
    whole = (b @ a).view_as(change) + change
    put(layer, [_cut(whole, found, a.shape[0])])
    return True


def _gathered(number: int, seen: "Iterable[tuple[Asked, Sequence[Row], dict[int, Tensor]]]") -> Fit | None:
    import torch

    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for asked, rows, patterns in seen:
        if not asked.linear:
            return None
        for place, wanted in patterns.items():
            # half precision is a sum of chances that is not 1, and what is off by that is no variance
            chance = wanted.to(asked.query.device).float().log_softmax(dim=-1)
            curvature, slope = _terms(asked, rows[place], chance, number)
            parts.append((asked.given[rows[place].begin : rows[place].end].float(), curvature, slope))
    if not parts:
        return None
    inputs, curvatures, slopes = (torch.cat(part) for part in zip(*parts, strict=True))
    return Fit(inputs=inputs, curvature=curvatures, slope=slopes)


def _terms(asked: Asked, row: "Row", wanted: "Tensor", number: int) -> "tuple[Tensor, Tensor]":
    """One row's curvature and slope in its queries before they are turned."""
    import torch

    keys = _keys(asked.query, asked.key, row, number)
    keys = keys - keys.mean(dim=1, keepdim=True)  # a shift is no variance, and rounds
    scores = _scores(asked.query, keys, row, asked.rule)
    chance = wanted.exp()
    off = torch.where(chance > 0, wanted - scores, 0.0)
    weighted = chance * (off - (chance * off).sum(dim=-1, keepdim=True))
    mean = chance @ keys
    curvature = torch.cat([_second(one, keys) for one in torch.split(chance, _few(keys), dim=1)], dim=1)
    curvature = (curvature - mean[..., :, None] * mean[..., None, :]) * asked.rule.scale**2
    turn = asked.turn and tuple(part[row.begin : row.end].float() for part in asked.turn)
    slope = _turned(weighted @ keys * asked.rule.scale, turn, back=True)
    for _ in range(2):  # its rows, then its columns
        wide = turn and tuple(part[:, None, :] for part in turn)
        curvature = _turned(curvature.mT, wide, back=True)
    return curvature.transpose(0, 1), slope.transpose(0, 1)


def _second(chance: "Tensor", keys: "Tensor") -> "Tensor":
    """Mean products of keys, `[heads, tokens, head, head]`."""
    return (chance[..., None] * keys[:, None]).mT @ keys[:, None]


def _few(keys: "Tensor") -> int:
    return max(1, _PRODUCT // keys.numel())


def _keys(query: "Tensor", key: "Tensor", row: "Row", layer: int) -> "Tensor":
    """What a row's tokens may see, float32 `[heads, seen, head]`."""
    import torch

    own = [piece[layer][0] for piece in row.pieces] + [key[:, row.begin : row.end]]
    found = torch.cat(own, dim=1).float()
    return found.repeat_interleave(query.shape[0] // key.shape[0], dim=0)


def _scores(query: "Tensor", keys: "Tensor", row: "Row", rule: "Rule") -> "Tensor":
    """Scores of what a row's tokens see, -inf of later tokens: `[heads, tokens, seen]`."""
    import torch

    found = query[:, row.begin : row.end].float() * rule.scale @ keys.mT
    size, whole = found.shape[1:]
    later = torch.ones(size, whole, dtype=torch.bool, device=found.device).triu(1 + whole - size)
    return found.masked_fill(later, float("-inf"))


def _turned(x: "Tensor", turn: "tuple[Tensor, ...] | None", *, back: bool) -> "Tensor":
    """Vectors turned by their positions, or back; the first numbers of each where not all are turned.

    Source: transformers 5.17, models/llama/modeling_llama.py `apply_rotary_pos_emb`.
    """
    import torch

    if turn is None:
        return x
    cos, sin = (part.float() for part in turn)
    part, rest = x[..., : cos.shape[-1]], x[..., cos.shape[-1] :]
    one, two = part.chunk(2, dim=-1)
    other = torch.cat([-two, one], dim=-1) * sin
    return torch.cat([part * cos - other if back else part * cos + other, rest], dim=-1)


def _solved(found: Fit) -> "Tensor | None":
    """The change of each head's projection, float64 `[heads, head, in]`."""
    import torch

    x, curvature, slope = found.inputs, found.curvature, found.slope
    size = len(x)
    (across, ways), (bent, bends) = found.across, found.bent
    ridge = RIDGE * bent.mean(dim=-1) * across.mean()
    ridge = ridge.clamp_min(LEAST * float(ridge.max()))[:, None, None]
    scale = bent[:, :, None] * across + ridge

    def easier(rest: "Tensor") -> "Tensor":
        found: Tensor = bends @ (bends.mT @ rest @ ways / scale) @ ways.T
        return found

    def times(change: "Tensor") -> "Tensor":
        moved = torch.einsum("ti,hai->tha", x, change.to(x))
        bent = (curvature @ moved[..., None])[..., 0]
        return torch.einsum("tha,ti->hai", bent, x).double() / size + ridge * change

    rest = torch.einsum("tha,ti->hai", slope, x).double() / size
    wanted, change = rest.clone(), torch.zeros_like(rest)
    towards = easier(rest)
    way, left = towards, (rest * towards).sum(dim=(1, 2))
    for _ in range(TURNS):
        bend = times(way)
        step = left / (way * bend).sum(dim=(1, 2)).clamp_min(1e-300)
        change = change + step[:, None, None] * way
        rest = rest - step[:, None, None] * bend
        towards = easier(rest)
        before, left = left, (rest * towards).sum(dim=(1, 2))
        way = towards + (left / before.clamp_min(1e-300))[:, None, None] * way
    gained = float((2 * wanted * change - times(change) * change).sum())
    return change if gained > 0 else None


def _cut(whole: "Tensor", found: Fit, rank: int) -> "tuple[Tensor, Tensor]":
    """Of a rank, what is nearest to an update by the mean curvature and the inputs it is for.

    Args:
        whole: float64 `[heads, head, in]`.
        found: the layer's.
        rank: of the factors.

    Returns:
        float64 `[rank, in]` and `[heads * head, rank]`.
    """
    right, right_back = _root(*found.across)
    left, left_back = _root(*found.bent)
    weighted = (left @ whole @ right).flatten(0, 1)
    directions = leading(weighted.T, weighted.T, rank)
    b = left_back @ directions.view(*whole.shape[:2], -1)
    return directions.T @ weighted @ right_back, b.flatten(0, 1)


def _spectrum(square: "Tensor") -> "tuple[Tensor, Tensor]":
    """Eigenvalues, none negative but for rounding, and vectors of symmetric matrices."""
    import torch

    values, vectors = torch.linalg.eigh(square)
    return values.clamp_min(0), vectors


def _root(values: "Tensor", vectors: "Tensor") -> "tuple[Tensor, Tensor]":
    """The roots of matrices of this spectrum, a thousandth of the mean of all added, and their inverses."""
    roots = (values + max(1e-3 * float(values.mean()), 1e-30)).sqrt()[..., None, :]
    return (vectors * roots) @ vectors.mT, (vectors / roots) @ vectors.mT
