"""Runs a vector on a model that is told on which tokens an adapter acts, call by call.

Padding, calls, decoding and KV of earlier requests are handled here once, for our reference and for PEFT
with its offsets given. Nothing here looks for an invocation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from zoo.validators.conformance.kv import empty_cache, filled_cache, prefix_kv
from zoo.validators.conformance.vectors.case import Case
from zoo.validators.conformance.vectors.compare import LogProbs
from zoo.validators.conformance.vectors.layout import Layout
from zoo.validators.conformance.vectors.rules import Plan, earlier_plan, reusable

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

Wide = Sequence[Sequence[str | None]]
"""The adapter that acts on each token of a call, padding included, a row each."""


class Call(Protocol):
    """One forward call of some model, the cache extended in place."""

    def __call__(
        self,
        ids: "Tensor",
        acting: Wide,
        *,
        attention_mask: "Tensor",
        position_ids: "Tensor",
        cache: "DynamicCache",
    ) -> "Tensor":
        """Takes one call.

        Args:
            ids: int64 `[batch, tokens]`, the tokens after those in `cache`.
            acting: the adapter on each of them.
            attention_mask: int64 `[batch, cached + tokens]`, 1 where there is a token.
            position_ids: int64 `[batch, tokens]`.
            cache: KV of earlier tokens.

        Returns:
            Logits `[batch, tokens, vocabulary]`.
        """


def run(case: Case, plans: Sequence[Plan], call: Call, *, device: str = "cpu") -> list[LogProbs]:
    """Runs a vector by given plans, on KV of its earlier requests as far as that is right.

    Args:
        case: the vector.
        plans: a row each.
        call: the model.
        device: where the ids go.
    """
    cache, kept = _after_history(case, plans[0], call, device)
    layout = Layout.of(case)
    calls = list(layout.calls)
    if kept:  # only vectors of one row in one call have a history
        calls[0] -= kept
    logits = in_calls(layout.ids, layout.real, layout.spread(plans), calls, call, cache, device)
    return told(case, layout, logits, first=kept)


def in_calls(
    rows: Sequence[Sequence[int]],
    real: Sequence[Sequence[int]],
    wide: Wide,
    calls: Sequence[int],
    call: Call,
    cache: "DynamicCache",
    device: str = "cpu",
) -> "Tensor":
    """Runs the tokens after those in the cache, in calls of the given sizes.

    Args:
        rows: ids, those in the cache included.
        real: 1 where there is a token.
        wide: the adapter on each token.
        calls: they add up to what the cache lacks.
        call: the model.
        cache: extended in place.
        device: where the ids go.

    Returns:
        Logits of the tokens that were run `[batch, tokens, vocabulary]`.
    """
    import torch

    ids, mask = torch.tensor(rows, device=device), torch.tensor(real, device=device)
    positions = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    start, found = cache.get_seq_length(), []
    for size in calls:
        end = start + size
        found.append(
            call(
                ids[:, start:end],
                [acting[start:end] for acting in wide],
                attention_mask=mask[:, :end],
                position_ids=positions[:, start:end],
                cache=cache,
            )
        )
        start = end
    return torch.cat(found, dim=1)


def told(case: Case, layout: Layout, logits: "Tensor", *, first: int = 0) -> list[LogProbs]:
    """The log-probabilities at the stated positions, whole vocabulary.

    Args:
        case: the vector.
        layout: of it.
        logits: `[batch, tokens, vocabulary]`.
        first: index in the layout of the first token that has logits; positions before it are not told.
    """
    import torch

    log_probs = torch.log_softmax(logits.to(torch.promote_types(torch.float32, logits.dtype)), dim=-1)
    found: list[LogProbs] = []
    for index, row in enumerate(case.rows):
        places = {one.position: layout.index(index, one.position) - first for one in row.expected}
        found.append(
            {
                position: dict(enumerate(log_probs[index, place].tolist()))
                for position, place in places.items()
                if place >= 0
            }
        )
    return found


def shortened(cache: "DynamicCache", length: int) -> "DynamicCache":
    """A cache of another one's first positions, which growing it leaves alone."""
    return filled_cache(prefix_kv(cache, length)) if length else empty_cache()


def _after_history(case: Case, plan: Plan, call: Call, device: str) -> "tuple[DynamicCache, int]":
    """The KV that a session may keep for the vector's own row, and of how many tokens it is."""
    cache = empty_cache()
    ids: tuple[int, ...] = ()
    acted: Plan = ()
    for earlier in case.history:
        wanted = earlier_plan(earlier)
        kept = reusable(ids, acted, earlier.ids, wanted)
        cache = shortened(cache, kept)
        ids, acted = earlier.ids, wanted
        ones = [(1,) * len(ids)]
        in_calls([ids], ones, [wanted], [len(ids) - kept], call, cache, device)
    if not case.history:
        return cache, 0
    kept = reusable(ids, acted, case.rows[0].ids, plan)
    return shortened(cache, kept), kept
