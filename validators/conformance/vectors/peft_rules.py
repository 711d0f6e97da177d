"""What PEFT does to a vector as its users call it, read off its code: the deviations it is known for.

PEFT looks for the invocation in the tokens of each call and counts from the call's end; padding is scanned
with the rest, and a cache is taken as it is. `generate` looks once, in the prompt.
Source: peft 0.21.2, tuners/lora/variants.py, `calculate_alora_offsets`, `get_alora_offsets_for_forward`,
`get_alora_offsets_for_generate`, and `ALoraLinearVariant.forward`.
"""

from collections.abc import Callable, Iterator, Sequence

from zoo.activation import invocation_start
from zoo.validators.conformance.vectors.case import Case
from zoo.validators.conformance.vectors.layout import Layout
from zoo.validators.conformance.vectors.rules import Deviation, Plan, by_rule

Acting = list[str | None]


def chunk_size(case: Case) -> int | None:
    """The `prefill_chunk_size` that makes a vector's calls; None when no such size does."""
    calls = case.calls
    if len(calls) < 2 or calls[-1] > calls[0] or any(one != calls[0] for one in calls[:-1]):
        return None
    return calls[0]


def as_called(case: Case) -> tuple[Plan, ...]:
    """The plans that PEFT follows: the right ones wherever it keeps to its own rule."""
    if case.history:
        return (tuple(_after_history(case)),)
    layout = Layout.of(case)
    wide: list[Acting] = []
    for row, ids in zip(case.rows, layout.ids, strict=True):
        if row.adapter is None or "inputs-embeds" in case.flags:
            wide.append([None] * len(ids))
        elif size := chunk_size(case):
            offset = offset_of(ids, row.invocation)
            pieces = [ids[at : at + size] for at in range(0, len(ids), size)]
            wide.append([one for piece in pieces for one in _from_end(row.adapter, offset, len(piece))])
        else:
            wide.append(list(_call_by_call(row.adapter, row.invocation, ids, layout.calls)))
    return layout.gathered(wide)


def offset_of(ids: Sequence[int], invocation: Sequence[int]) -> int:
    """How many tokens from the end PEFT adapts in a call over `ids`; 0 without an occurrence."""
    start = invocation_start(ids, invocation)
    return 0 if start is None else len(ids) - start


def _from_end(adapter: str, offset: int, length: int) -> Acting:
    return [adapter if at >= length - offset else None for at in range(length)]


def _call_by_call(
    adapter: str, invocation: Sequence[int], ids: Sequence[int], calls: Sequence[int]
) -> Iterator[str | None]:
    start = 0
    for size in calls:
        piece = ids[start : start + size]
        yield from _from_end(adapter, offset_of(piece, invocation), size)
        start += size


def _after_history(case: Case) -> Acting:
    """The last request's plan when each one continues the cache as far as the ids are the same."""
    ids: tuple[int, ...] = ()
    acted: Acting = []
    row = case.rows[0]
    requests = [(one.adapter, one.invocation, one.ids) for one in case.history]
    for adapter, invocation, wanted in (*requests, (row.adapter, row.invocation, row.ids)):
        kept = shared(ids, wanted)
        offset = offset_of(wanted, invocation) if adapter else 0
        acted = acted[:kept] + _from_end(adapter or "", offset, len(wanted) - kept)
        ids = wanted
    return acted


def shared(old: Sequence[int], new: Sequence[int]) -> int:
    """How many leading ids are the same, at most all but the last of the new ones."""
    count = next((at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), None)
    return min(len(old) if count is None else count, len(new) - 1)


def _known(note: str, concerns: Callable[[Case], bool], source: str) -> Deviation:
    def rule(case: Case) -> tuple[Plan, ...]:
        return as_called(case) if concerns(case) else by_rule(case)

    return Deviation(note=note, source=f"peft 0.21.2, tuners/lora/variants.py, {source}; run", rule=rule)


_FORWARD, _GENERATE = "get_alora_offsets_for_forward", "get_alora_offsets_for_generate"
DEVIATIONS = (
    _known(
        "embeddings without ids: the base model, with a warning",
        lambda case: "inputs-embeds" in case.flags,
        _FORWARD,
    ),
    _known(
        "a cache is taken as it is, whatever adapter it was computed with",
        lambda case: bool(case.history),
        _GENERATE,
    ),
    _known(
        "generate(prefill_chunk_size=) counts the offset from the end of every chunk",
        lambda case: chunk_size(case) is not None,
        _GENERATE,
    ),
    _known(
        "a loop over forward looks for the invocation in each call's own tokens",
        lambda case: len(Layout.of(case).calls) > 1 and chunk_size(case) is None,
        _FORWARD,
    ),
    _known(
        "padding is searched for the invocation with the rest",
        lambda case: case.padding is not None and len(Layout.of(case).calls) == 1,
        "calculate_alora_offsets",
    ),
)
