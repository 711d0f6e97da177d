"""Writes the vectors' JSON files, their numbers computed by the double-precision oracle.

    python -m tests.vectors.make_vectors [OUT]

Without OUT the files of the package are replaced. Each vector is refused whose log-probabilities would not
show an activation that is one token off (`SEPARATION`). The model and the adapters come from make_model.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.vectors.draft import Draft, DraftGroup
from tests.vectors.drafts import GROUPS
from tests.vectors.make_model import unlikely_ids
from zoo.activation import invocation_start
from zoo.validators.conformance.vectors.case import ADAPTERS, FOLDER, Case, Expected, Row, invocation_of
from zoo.validators.conformance.vectors.oracle import Oracle, stated
from zoo.validators.conformance.vectors.rules import Plan, row_plan

SEPARATION = 0.6  # six hundred times the tolerance, and twice what bfloat16 rounds away
TOLERANCE = 0.001
DECIMALS = 10
WIDTH = 110


def make_case(draft: Draft, oracle: Oracle) -> Case:
    rows = tuple(_row(draft, index, oracle) for index in range(len(draft.rows)))
    case = Case(
        id=draft.id,
        comment=draft.comment,
        source=draft.source,
        flags=frozenset(flags(draft)),
        rows=rows,
        history=tuple(draft.history),
        padding=draft.padding,
        calls=tuple(draft.calls),
        separation=0.0,
        tolerance=TOLERANCE,
    )
    for row in rows:
        likeliest = next(iter(row.expected[-1].log_probs))
        if likeliest in set(unlikely_ids()):
            raise ValueError(f"{draft.id}: its next token would be {likeliest}, which is no text")
    found = min(_separations(case, oracle))
    if not found > SEPARATION:
        raise ValueError(f"{draft.id}: one token early or late is seen only as {found:.3f}")
    return replace(case, separation=round(found, 3))


def flags(draft: Draft) -> Iterator[str]:
    """What an engine must be able to do."""
    if len(draft.rows) > 1:
        yield "batch"
    if draft.padding:
        yield f"padding-{draft.padding.side}"
    if draft.calls:
        yield "chunked-prefill"
    if draft.history:
        yield "cache-reuse"
    if any(ask.decoded for ask in draft.rows):
        yield "manual-decode"
    if len({ask.adapter for ask in draft.rows}) > 1:
        yield "mixed-adapters"
    if draft.embeds:
        yield "inputs-embeds"


def _row(draft: Draft, index: int, oracle: Oracle) -> Row:
    ask = draft.rows[index]
    invocation = invocation_of(ask.adapter)
    start = invocation_start(ask.prompt, invocation) if invocation else None
    row = Row(
        adapter=ask.adapter,
        invocation=invocation,
        ids=(*ask.prompt, *ask.decoded),
        prompt=len(ask.prompt),
        active_from=start,
        expected=(),
    )
    whole = oracle.log_probs(row.ids, row_plan(row))
    expected = tuple(
        Expected(position=position, log_probs=_rounded(stated(whole[position])))
        for position in _positions(row)
    )
    return replace(row, expected=expected)


def _positions(row: Row) -> list[int]:
    """The last base token, the first adapted one, the prompt's end, and two decoded tokens."""
    last, start = len(row.ids) - 1, row.active_from
    wanted = {row.prompt - 1, last, min(row.prompt, last)}
    wanted |= {last // 2} if start is None else {start - 1, start}
    return sorted(position for position in wanted if position >= 0)


def _rounded(log_probs: dict[int, float]) -> dict[int, float]:
    return {token: round(value, DECIMALS) for token, value in log_probs.items()}


def _separations(case: Case, oracle: Oracle) -> Iterator[float]:
    """How far each stated position moves under each neighbouring rule that concerns it."""
    for row in case.rows:
        for wrong, first in _wrong(row):
            numbers = oracle.log_probs(row.ids, wrong)
            for one in row.expected:
                if one.position >= first:
                    yield float(max(abs(numbers[one.position][t] - v) for t, v in one.log_probs.items()))


def _wrong(row: Row) -> Iterator[tuple[Plan, int]]:
    """Plans that are wrong by a little, with the first position at which that can be seen."""
    length, start = len(row.ids), row.active_from
    for name in ADAPTERS if row.adapter is None else (row.adapter,):
        if start is None:
            yield (name,) * length, 0
        else:
            if start:
                yield (None,) * (start - 1) + (name,) * (length - start + 1), start - 1
            yield (None,) * (start + 1) + (name,) * (length - start - 1), start


def make_group(group: DraftGroup, oracle: Oracle) -> dict[str, Any]:
    made = [make_case(draft, oracle) for draft in group.drafts()]
    return {
        "schema": "vectors.schema.json",
        "description": group.description,
        "source": group.source,
        "model": "model",
        "adapters": {name: folder.name for name, folder in ADAPTERS.items()},
        "tolerance": TOLERANCE,
        "count": len(made),
        "tests": [_document(case) for case in made],
    }


def _document(case: Case) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": case.id,
        "comment": case.comment,
        "flags": sorted(case.flags),
        "source": case.source,
        "separation": case.separation,
    }
    if case.history:
        found["history"] = [
            {"adapter": e.adapter, "invocation": list(e.invocation), "ids": list(e.ids)} for e in case.history
        ]
    if case.padding:
        found["padding"] = {"side": case.padding.side, "id": case.padding.id}
    if case.calls:
        found["calls"] = list(case.calls)
    found["rows"] = [
        {
            "adapter": row.adapter,
            "invocation": list(row.invocation),
            "ids": list(row.ids),
            "prompt": row.prompt,
            "active_from": row.active_from,
            "expected": [
                {"position": one.position, "log_probs": {str(t): v for t, v in one.log_probs.items()}}
                for one in row.expected
            ],
        }
        for row in case.rows
    ]
    return found


def layout(value: Any, indent: int = 0) -> str:
    """JSON with what fits, and what is only numbers, on one line."""
    short = json.dumps(value, ensure_ascii=False)
    numbers = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    flat = bool(numbers) and all(isinstance(one, int | float) for one in numbers)
    if flat or not isinstance(value, dict | list) or len(short) + indent <= WIDTH:
        return short
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        lines = [f"{pad}{json.dumps(k)}: {layout(v, indent + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    lines = [pad + layout(one, indent + 1) for one in value]
    return "[\n" + ",\n".join(lines) + "\n" + " " * indent + "]"


def make_all(out: Path) -> int:
    """Writes every group's file; the number of vectors."""
    oracle, count = Oracle(), 0
    for group in GROUPS:
        document = make_group(group, oracle)
        (out / f"{group.name}.json").write_text(layout(document) + "\n", encoding="utf-8")
        count += document["count"]
    return count


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    sys.stdout.write(f"{make_all(target)} vectors in {target}\n")
