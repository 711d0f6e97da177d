"""Wrong rules, each a mistake that an engine could make or that one makes. Every vector must catch one."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from zoo.activation import ALORA_LEGACY, LLAMA_SERVER, TRANSFORMERS, VLLM_OLD, occurrences
from zoo.validators.conformance.vectors.case import ADAPTERS, Case, Row, invocation_of
from zoo.validators.conformance.vectors.layout import Layout
from zoo.validators.conformance.vectors.peft_rules import DEVIATIONS, shared
from zoo.validators.conformance.vectors.rules import Plan, Rule, by_convention, by_rule, earlier_plan

Start = Callable[[Sequence[int], Sequence[int]], int | None]


def starting(find: Start) -> Rule:
    """Rows by themselves, active from where `find` says in the prompt."""

    def rule(case: Case) -> tuple[Plan, ...]:
        return tuple(_from(row, _found(find, row.ids[: row.prompt], row)) for row in case.rows)

    return rule


def _found(find: Start, ids: Sequence[int], row: Row) -> int | None:
    return None if row.adapter is None else find(ids, row.invocation)


def _from(row: Row, start: int | None) -> Plan:
    if row.adapter is None or start is None:
        return (None,) * len(row.ids)
    return tuple(row.adapter if at >= start else None for at in range(len(row.ids)))


def last(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """The rule itself."""
    return _last(occurrences(ids, invocation))


def first(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    return next(iter(occurrences(ids, invocation)), None)


def exclusive(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """Active behind the invocation, not on it."""
    found = occurrences(ids, invocation)
    return found[-1] + len(invocation) if found else None


def prefix_match(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """The first tokens of it suffice."""
    return _last(occurrences(ids, invocation[:2]))


def suffix_match(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """The last tokens of it suffice."""
    return _last(occurrences(ids, invocation[1:] or invocation))


def any_token(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """The last id that is one of its ids."""
    return _last([at for at, token in enumerate(ids) if token in invocation])


def without_overlaps(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """Searched from the left, going on behind each match."""
    found, at = None, 0
    while at <= len(ids) - len(invocation):
        if list(ids[at : at + len(invocation)]) == list(invocation):
            found, at = at, at + len(invocation)
        else:
            at += 1
    return found


def not_at_the_start(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """0 taken for "not found"."""
    return _last(occurrences(ids, invocation)) or None


def only_at_the_end(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """Found only where the prompt ends with it."""
    start = len(ids) - len(invocation)
    return start if occurrences(ids, invocation)[-1:] == [start] else None


def not_at_the_end(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """The search ends one position too early."""
    return _last(occurrences(ids[:-1], invocation))


def _last(found: list[int]) -> int | None:
    return found[-1] if found else None


def everything_scanned(case: Case) -> tuple[Plan, ...]:
    """Decoded tokens searched like the prompt's."""
    return tuple(_from(row, _found(last, row.ids, row)) for row in case.rows)


def decode_forgets(case: Case) -> tuple[Plan, ...]:
    return tuple(
        (*plan[: row.prompt], *(None,) * (len(row.ids) - row.prompt))
        for row, plan in zip(case.rows, by_rule(case), strict=True)
    )


def decode_adapts(case: Case) -> tuple[Plan, ...]:
    """Decoded tokens always adapted."""
    return tuple(
        (*plan[: row.prompt], *(row.adapter,) * (len(row.ids) - row.prompt))
        for row, plan in zip(case.rows, by_rule(case), strict=True)
    )


def invocation_only(case: Case) -> tuple[Plan, ...]:
    """Active on the invocation's tokens, not behind them."""
    found = []
    for row, plan in zip(case.rows, by_rule(case), strict=True):
        end = (row.active_from or 0) + len(row.invocation)
        found.append(tuple(one if at < end else None for at, one in enumerate(plan)))
    return tuple(found)


def one_start_for_all(case: Case) -> tuple[Plan, ...]:
    """The first row's start for the whole batch."""
    offset = case.rows[0].active_from
    return tuple(_from(row, offset) for row in case.rows)


def across_rows(case: Case) -> tuple[Plan, ...]:
    """The batch searched as one long row: a match may begin in one row and end in the next."""
    layout = Layout.of(case)
    flat = [token for ids in layout.ids for token in ids]
    width = len(layout.ids[0])
    wide: list[list[str | None]] = []
    for number, row in enumerate(case.rows):
        begins = [] if row.adapter is None else occurrences(flat, row.invocation)
        own = [at - number * width for at in begins if number * width <= at < (number + 1) * width]
        start = _last(own)
        wide.append([row.adapter if start is not None and at >= start else None for at in range(width)])
    return layout.gathered(wide)


def from_the_padded_end(case: Case) -> tuple[Plan, ...]:
    """Tokens from the end counted without padding, and applied with it."""
    layout = Layout.of(case)
    wide = []
    for row, ids in zip(case.rows, layout.ids, strict=True):
        offset = 0 if row.active_from is None else len(row.ids) - row.active_from
        wide.append([row.adapter if at >= len(ids) - offset else None for at in range(len(ids))])
    return layout.gathered(wide)


def start_without_padding(case: Case) -> tuple[Plan, ...]:
    """The start counted without padding, and applied with it."""
    layout = Layout.of(case)
    wide = []
    for row, ids in zip(case.rows, layout.ids, strict=True):
        start = len(ids) if row.active_from is None else row.active_from
        wide.append([row.adapter if at >= start else None for at in range(len(ids))])
    return layout.gathered(wide)


def padding_searched(case: Case) -> tuple[Plan, ...]:
    """Padding is prompt to the search; otherwise right."""
    layout = Layout.of(case)
    wide = []
    for row, ids in zip(case.rows, layout.ids, strict=True):
        start = _found(last, ids[: case.width], row)
        wide.append([row.adapter if start is not None and at >= start else None for at in range(len(ids))])
    return layout.gathered(wide)


def call_by_call(case: Case) -> tuple[Plan, ...]:
    """Each prefill call searched by itself; once found, active in it to its end and in what follows."""
    layout = Layout.of(case)
    wide = []
    for row, ids in zip(case.rows, layout.ids, strict=True):
        acting: list[str | None] = []
        at, on = 0, False
        for size in layout.calls:
            found = occurrences(ids[at : at + size], row.invocation) if row.invocation else []
            start = found[-1] if found else (0 if on else size)
            on = on or bool(found)
            acting += [row.adapter if place >= start else None for place in range(size)]
            at += size
        wide.append(acting)
    return layout.gathered(wide)


def each_call_to_its_end(case: Case) -> tuple[Plan, ...]:
    """The offset from the prompt's end, counted from every call's end."""
    layout = Layout.of(case)
    wide = []
    for row in case.rows:
        offset = 0 if row.active_from is None else len(row.ids) - row.active_from
        wide.append(
            [row.adapter if at >= size - offset else None for size in layout.calls for at in range(size)]
        )
    return layout.gathered(wide)


def cache_as_it_is(case: Case) -> tuple[Plan, ...]:
    """KV kept as far as the ids are the same, whoever computed it."""
    if not case.history:
        return by_rule(case)
    ids: tuple[int, ...] = ()
    acted: Plan = ()
    (plan,) = by_rule(case)
    own = (case.rows[0].ids, plan)
    for wanted, right in (*((one.ids, earlier_plan(one)) for one in case.history), own):
        kept = shared(ids, wanted)
        ids, acted = wanted, (*acted[:kept], *right[kept:])
    return (acted,)


def first_adapter_for_all(case: Case) -> tuple[Plan, ...]:
    """One adapter's weights for every row, each from its own start."""
    name = next((row.adapter for row in case.rows if row.adapter), None)
    return tuple(tuple(name if one else None for one in plan) for plan in by_rule(case))


def first_invocation_for_all(case: Case) -> tuple[Plan, ...]:
    """One adapter's invocation looked for in every row."""
    name = next((row.adapter for row in case.rows if row.adapter), None)
    ids = invocation_of(name)
    return tuple(
        _from(row, _last(occurrences(row.ids[: row.prompt], ids)) if ids else None) for row in case.rows
    )


def base_rows_invoke(case: Case) -> tuple[Plan, ...]:
    """A base row that holds an adapter's invocation runs that adapter."""
    found = []
    for row, plan in zip(case.rows, by_rule(case), strict=True):
        acting = plan
        for name in ADAPTERS if row.adapter is None else ():
            start = _last(occurrences(row.ids, invocation_of(name)))
            acting = (
                plan if start is None else tuple(name if at >= start else None for at in range(len(plan)))
            )
            if start is not None:
                break
        found.append(acting)
    return tuple(found)


def base_rows_adapted(case: Case) -> tuple[Plan, ...]:
    """The loaded adapter runs where the base was asked for."""
    name = next(iter(case.adapters), "a")
    return tuple(
        plan if row.adapter else (name,) * len(plan)
        for row, plan in zip(case.rows, by_rule(case), strict=True)
    )


def _conventions() -> Iterator[tuple[str, Rule]]:
    for name, convention in (
        ("one-early", LLAMA_SERVER),
        ("one-late", ALORA_LEGACY),
        ("always-on", VLLM_OLD),
        ("never-on", TRANSFORMERS),
    ):
        yield name, lambda case, known=convention: by_convention(case, known)  # type: ignore[misc]


MUTANTS: Mapping[str, Rule] = {
    **dict(_conventions()),
    **{
        find.__name__.replace("_", "-"): starting(find)
        for find in (
            first,
            exclusive,
            prefix_match,
            suffix_match,
            any_token,
            without_overlaps,
            not_at_the_start,
            only_at_the_end,
            not_at_the_end,
        )
    },
    **{
        rule.__name__.replace("_", "-"): rule
        for rule in (
            everything_scanned,
            decode_forgets,
            decode_adapts,
            invocation_only,
            one_start_for_all,
            across_rows,
            from_the_padded_end,
            start_without_padding,
            padding_searched,
            call_by_call,
            each_call_to_its_end,
            cache_as_it_is,
            first_adapter_for_all,
            first_invocation_for_all,
            base_rows_invoke,
            base_rows_adapted,
        )
    },
    **{f"peft-{number}": deviation.rule for number, deviation in enumerate(DEVIATIONS)},
}
