"""Rows in which the invocation occurs twice, or has text behind it: what decides where the adapter starts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.activation import invocation_start
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import empty_cache
from zoo.validators.conformance.stepping import log_probs

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session

BEHIND = 32  # tokens of text behind the invocation: more than any window an engine may look at


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One row, run whole by PEFT under its own rule, by the base and by the reference.

    Attributes:
        what: where the invocation stands in it.
        parity: PEFT against the reference from the start on, log-probabilities.
        drift: PEFT's logits before the start against the base's; None when bitwise equal.
        tokens: of the row.
    """

    what: str
    parity: Difference
    drift: LogitDrift | None
    tokens: int


def occurrences_of(session: "Session", prompt: Prompt) -> list[Occurrence]:
    """Runs the rows that `placed` makes of a prompt."""
    found = []
    for what, row in placed(prompt, session.invocation):
        start = invocation_start(row, session.invocation) or 0
        ids = session.tensor([row])
        mask = session.reference.masks([row], session.invocation)
        peft = peft_model.forward_by_rule(session.peft, ids, cache=empty_cache())
        expected = session.reference.log_probs(ids, mask, cache=empty_cache())
        base = session.rig.whole(row).logits
        found.append(
            Occurrence(
                what=what,
                parity=difference(log_probs(peft[:, start:]), expected[:, start:]),
                drift=logit_drift(peft[:, :start], base[:, :start]),
                tokens=len(row),
            )
        )
    return found


def placed(prompt: Prompt, invocation: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Rows made of a prompt's own ids, each with where the invocation stands in it.

    The first one is the turn before the second: an engine that keeps what it computed may continue that. In
    the third one, the invocation's last id follows it at once, then text, then the invocation without
    its last id: what a matcher that restarts at the wrong place, that looks at the end only, or that is
    content with a part of the invocation gets wrong.
    """
    ids, called = list(prompt.ids), list(invocation)
    yield "the invocation once", ids
    yield "the invocation twice, as in a later turn", ids + ids
    text = islice(cycle([one for one in ids if one not in called] or called[:1]), BEHIND)
    yield "text and a broken-off invocation behind it", [*ids, called[-1], *text, *called[:-1]]
