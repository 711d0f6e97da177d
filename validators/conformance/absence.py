"""Prompts without the invocation: the adapter must be the base model, bit for bit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.activation import occurrences
from zoo.prompts import Prompt
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import KvDifference, empty_cache, first_difference, prefix_kv

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session

ROWS = 2  # on the first adapter of a kind; how an engine reads ids does not depend on the factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """One row without a full occurrence.

    Attributes:
        what: how it lacks the invocation.
        logits: PEFT's logits against the base's; None when bitwise equal.
        kv: PEFT's KV against the base's; None when bitwise equal.
    """

    what: str
    logits: LogitDrift | None
    kv: KvDifference | None


def absences(session: "Session", prompt: Prompt) -> list[Absence]:
    """Runs rows made from one prompt that hold no full occurrence, through PEFT's own rule and the base.

    What is in the files must stay silent for every adapter: each runs one row. How ids are matched is shown
    with a second one on the first adapter of each kind (`zoo.validators.conformance.kind`).
    """
    found = []
    most = 1 if session.rig.shown.find("absence", session) else ROWS
    for what, row in islice(without(prompt, session.invocation), most):
        base, cache = session.rig.whole(row), empty_cache()
        peft = peft_model.forward_by_rule(session.peft, session.tensor([row]), cache=cache)
        kv = first_difference(prefix_kv(cache, len(row)), prefix_kv(base.cache, len(row)))
        found.append(Absence(what=what, logits=logit_drift(peft, base.logits), kv=kv))
    if not any(one.logits or one.kv for one in found):
        session.rig.shown.add("absence", session)
    return found


def without(prompt: Prompt, invocation: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Rows of a prompt's own ids without the invocation, each with what was done.

    Those with a part of it come first: they hold all that a row without any of it does.
    """
    ids = list(prompt.ids)
    first = occurrences(ids, invocation)[0]
    cut = first + len(invocation) - 1
    rows = {
        "cut inside the invocation": ids[:cut],
        "first token of the invocation missing": ids[:first] + ids[first + 1 : first + len(invocation)],
        "cut before the invocation": ids[:first],
    }
    seen: list[list[int]] = []
    for what, row in rows.items():
        if row and row not in seen and not occurrences(row, invocation):
            seen.append(row)
            yield what, row
