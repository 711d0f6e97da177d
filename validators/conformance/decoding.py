"""Greedy decoding by the reference, by PEFT step by step, and by PEFT's own generate on the base's cache."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.kv import copied, empty_cache
from zoo.validators.conformance.stepping import Step, in_chunks, log_probs

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

    from zoo.validators.conformance.session import Session

NEW_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Greedy tokens of one prompt.

    Attributes:
        expected: the reference's, on its own cache from an empty start.
        margins: by how much the best token beat the next, log-probability, for each of `expected`.
        stepped: PEFT's, decoded by hand on the base's prefix cache with the activation carried along.
        generated: PEFT's `generate` with the base's prefix cache.
    """

    expected: list[int]
    margins: list[float]
    stepped: list[int]
    generated: list[int]

    def decisive(self, *, tie: float) -> int:
        """How many of the first tokens can be compared: those before the reference's first tie."""
        first = (step for step, margin in enumerate(self.margins) if margin <= tie)
        return next(first, len(self.margins))

    def disagreement(self, found: list[int], *, tie: float) -> int | None:
        """The first step at which `found` differs and the reference was not at a tie, or None.

        Args:
            found: tokens of another engine.
            tie: margin up to which either token is right; the texts part ways there, so comparing stops.
        """
        for step, token in enumerate(self.expected):
            if step < len(found) and found[step] == token:
                continue
            return step if self.margins[step] > tie else None
        return None


def decode(session: "Session", prompt: Prompt) -> Decoding:
    """Decodes one prompt in three ways."""
    prefix, suffix = session.tensor([prompt.prefix]), session.tensor([prompt.suffix])
    cache = empty_cache()
    in_chunks(session.base_step, prefix, [len(prompt.prefix)] if prompt.prefix else [], cache)
    expected, margins = _reference(session, prompt)
    stepped, _ = greedy(session.active_step, suffix, copied(cache), session.end_ids)
    return Decoding(
        expected=expected,
        margins=margins,
        stepped=stepped,
        generated=_generate(session, prompt, copied(cache)),
    )


def greedy(
    step: Step, ids: "Tensor", cache: "DynamicCache", end_ids: tuple[int, ...]
) -> tuple[list[int], list[float]]:
    """Decodes greedily from one row of ids, up to `NEW_TOKENS` or the end.

    Returns:
        The tokens, the end token included, and each one's margin over the runner-up in log-probability.
    """
    tokens: list[int] = []
    margins: list[float] = []
    logits = step(ids, cache)
    while len(tokens) < NEW_TOKENS:
        best = log_probs(logits[0, -1]).topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        if tokens[-1] in end_ids or len(tokens) == NEW_TOKENS:
            break
        logits = step(ids.new_tensor([[tokens[-1]]]), cache)
    return tokens, margins


def _reference(session: "Session", prompt: Prompt) -> tuple[list[int], list[float]]:
    first = session.reference.masks([prompt.ids], session.invocation)
    masks: list[Callable[[Tensor], Tensor]] = [lambda ids: first]

    def step(ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        mask = masks.pop()(ids) if masks else ids.new_ones(ids.shape).bool()  # decoded tokens are adapted
        return session.reference.logits(ids, mask, cache=cache)

    return greedy(step, session.tensor([prompt.ids]), empty_cache(), session.end_ids)


def _generate(session: "Session", prompt: Prompt, cache: "DynamicCache") -> list[int]:
    ids = session.tensor([prompt.ids])
    made = peft_model.generate(
        session.peft,
        ids,
        attention_mask=ids.new_ones(ids.shape),
        max_new_tokens=NEW_TOKENS,
        end_ids=session.end_ids,
        pad_id=session.pad_id,
        cache=cache if prompt.prefix else None,
    )
    return [int(token) for token in made[0, ids.shape[1] :]]
