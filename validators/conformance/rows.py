"""A batch in which every row continues a prefix of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.errors import UndecidedError
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference
from zoo.validators.conformance.kv import filled_cache, prefix_kv
from zoo.validators.conformance.stepping import log_probs

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Two rows with equal suffixes behind different prefixes of one length.

    Attributes:
        own: PEFT against the reference, a difference a row, log-probabilities.
        other: PEFT against the reference's other row: what there is to see.
    """

    own: tuple[Difference, ...]
    other: tuple[Difference, ...]


def own_prefixes(session: "Session", prompt: Prompt) -> Rows:
    """Continues two prefixes of the base, gathered into one cache, with the prompt's suffix.

    Args:
        session: the models.
        prompt: with a start above 0.

    Raises:
        UndecidedError: no second prefix can be made.
    """
    import torch

    prefixes = (prompt.prefix, other_prefix(prompt.prefix, session.invocation))
    single = [session.rig.prefilled(prefix).cache() for prefix in prefixes]
    pairs = zip(*(prefix_kv(cache, prompt.start) for cache in single), strict=True)
    layers = [
        (torch.cat([keys for keys, _ in rows]), torch.cat([values for _, values in rows])) for rows in pairs
    ]
    ids = session.tensor([prompt.suffix] * len(prefixes))
    peft = log_probs(peft_model.forward_by_rule(session.peft, ids, cache=filled_cache(layers)))
    active = ids.new_ones(ids.shape).bool()
    expected = session.reference.log_probs(ids, active, cache=filled_cache(layers))
    return Rows(
        own=tuple(difference(peft[row], expected[row]) for row in (0, 1)),
        other=tuple(difference(peft[row], expected[1 - row]) for row in (0, 1)),
    )


def other_prefix(prefix: Sequence[int], invocation: Sequence[int]) -> tuple[int, ...]:
    """Another row of the same length: the same ids backwards, or one id only.

    Raises:
        UndecidedError: the prefix is nothing but that id.
    """
    own, length = tuple(prefix), len(prefix)
    for other in (own[::-1], (invocation[0],) * length, (invocation[-1],) * length):
        if other != own:
            return other
    raise UndecidedError("the prefix consists of the invocation's only token: no second row can be made")
