"""What llama-server does to requests that follow each other: a simulation of its cache as data.

A request keeps what the cache has of its ids, an aLoRA's at most up to the token before the invocation; with
the invocation at position 0 there is no such limit. Whose KV is kept is not asked. From an aLoRA back to the
base the cache is cleared.
Source: ggml-org/llama.cpp@0c1e57098, tools/server/server-context.cpp:3201-3205, 3432-3439 and
server-common.cpp:163-175; run against PEFT.
"""

from dataclasses import replace

from zoo.activation import LLAMA_SERVER, Convention, active_mask
from zoo.validators.conformance.vectors.case import Case
from zoo.validators.conformance.vectors.peft_rules import shared
from zoo.validators.conformance.vectors.rules import Deviation, Plan, by_convention


def deviations_of(convention: Convention) -> tuple[Deviation, ...]:
    """The deviations of a served engine that its convention's rule for one request does not cover."""
    if convention.engine != LLAMA_SERVER.engine:
        return ()
    note = "reuses whatever KV its cache has of the same ids, whoever computed it"
    source = "ggml-org/llama.cpp@0c1e57098, tools/server/server-context.cpp:3201-3205"
    return (Deviation(note=note, source=source, rule=lambda case: as_served(case, convention)),)


def as_served(case: Case, convention: Convention) -> tuple[Plan, ...]:
    """The plans that llama-server follows; without a history its convention's."""
    if not case.history:
        return by_convention(case, convention)
    ids: tuple[int, ...] = ()
    acted: Plan = ()
    adapted = False
    row = case.rows[0]
    requests = [(one.adapter, one.invocation, one.ids) for one in case.history]
    for adapter, invocation, wanted in (*requests, (row.adapter, row.invocation, row.ids)):
        kept = shared(ids, wanted) if adapter or not adapted else 0
        plan: Plan = (None,) * len(wanted)
        if adapter:
            start = _first(active_mask(wanted, invocation, replace(convention, shift=0)))
            if start:
                kept = min(kept, max(0, start + convention.shift))
            plan = tuple(adapter if on else None for on in active_mask(wanted, invocation, convention))
        acted = acted[:kept] + plan[kept:]
        ids, adapted = wanted, adapter is not None
    return (acted,)


def _first(mask: list[bool]) -> int | None:
    return mask.index(True) if True in mask else None
