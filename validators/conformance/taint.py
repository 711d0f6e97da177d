"""Taint: whether anything of an adapter stays behind in a cache or a model that the base goes on with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import (
    KvDifference,
    cut_back,
    filled_cache,
    first_difference,
    prefix_kv,
)
from zoo.validators.conformance.prefill import Prefill
from zoo.validators.conformance.rig import Turn
from zoo.validators.conformance.stepping import run_base

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import DynamicCache

    from zoo.validators.conformance.session import Session

SAID = 8  # tokens of a turn of the base


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One turn taken on a cache that adapters ran on before, against the same turn where none ever ran.

    Attributes:
        turn: what happened, in words.
        kv: the cache after it, against a pristine one; None when bitwise equal.
        logits: the turn's logits against the pristine ones; None when bitwise equal, or not compared.
    """

    turn: str
    kv: KvDifference | None
    logits: LogitDrift | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """One prompt taken in turns: base, adapter A, base, adapter B with a later invocation, base.

    Attributes:
        turns: what was compared, in order.
        control: the base's turn on a cache that still holds what A computed; None when even that shows no
            difference, so that nothing could have been seen.
    """

    turns: tuple[Handed, ...]
    control: LogitDrift | None


def take_turns(session: "Session", prompt: Prompt) -> Taint:
    """Runs the turns with PEFT's model for A, B and the switched-off base, beside the pristine base.

    B is the adapter itself with its update negated: another function from the same files.

    Args:
        session: the models.
        prompt: with a start above 0.
    """
    made, length = session.rig.prefilled(prompt.prefix), prompt.start
    said = prompt.ids[: min(length, SAID)]  # what the base reads in its turns: any tokens will do
    base = session.rig.turns(made, said, said)
    cache, ids = made.cache(), session.tensor([prompt.suffix])
    peft_model.forward_by_rule(session.peft, ids, cache=cache)
    control = _control(session, prompt, said, cache, made)
    cut_back(cache, length)
    turns = [Handed(turn="A ran and its tokens were cut off", kv=made.taint(cache), logits=None)]
    turns.append(_base_turn(session, "A was switched off", said, cache, base[0]))
    with peft_model.negated(session.peft):
        adapted = peft_model.forward_by_rule(session.peft, ids, cache=cache)
        expected = peft_model.forward_by_rule(session.peft, ids, cache=filled_cache(base[0].kv))
    turns.append(Handed(turn="B ran after A", kv=None, logits=logit_drift(adapted, expected)))
    cut_back(cache, length + len(said))
    turns.append(_base_turn(session, "B was unloaded", said, cache, base[1]))
    return Taint(turns=tuple(turns), control=control)


def _base_turn(
    session: "Session", turn: str, said: "Sequence[int]", cache: "DynamicCache", expected: Turn
) -> Handed:
    found = peft_model.forward_switched_off(session.peft, session.tensor([said]), cache=cache)
    kv = first_difference(prefix_kv(cache, expected.kv[0][0].shape[-2]), expected.kv)
    return Handed(turn=f"{turn}, the base went on", kv=kv, logits=logit_drift(found, expected.logits))


def _control(
    session: "Session", prompt: Prompt, said: "Sequence[int]", cache: "DynamicCache", made: Prefill
) -> LogitDrift | None:
    """The base on what A left in the cache against the base on its own keys and values, at equal shapes."""
    dirty = filled_cache(prefix_kv(cache, cache.get_seq_length()))
    found = run_base(session.model, session.tensor([said]), dirty)
    return logit_drift(found, session.rig.turns(made, prompt.suffix, said)[1].logits)
