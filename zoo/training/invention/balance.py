"""As many samples of each answer as there are, where the answers are a closed set."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.evaluation.answers import MAX_CHOICES

Row = Mapping[str, Any]


def counts(rows: Sequence[Row]) -> Counter[str]:
    """Rows by answer, the answer as JSON text."""
    return Counter(_key(row) for row in rows)


def closed(found: Mapping[str, int]) -> bool:
    """Whether answers are a closed set; as `zoo.evaluation.answers.choices` sees it."""
    return 0 < len(found) <= MAX_CHOICES and 2 * len(found) <= sum(found.values())


def enough(rows: Sequence[Row], samples: int, *, least: int = 2) -> bool:
    """Whether `samples` can be chosen, as many of each answer of a closed set.

    Args:
        rows: what there is.
        samples: wanted.
        least: answers that a closed set has at least: one alone could be all that was found.
    """
    if len(rows) < samples:
        return False
    found = counts(rows)
    if not closed(found):
        return True
    share = samples // max(least, len(found))
    return len(found) >= least and min(found.values()) >= share


def chosen(rows: Sequence[Row], samples: int) -> list[Row]:
    """So many rows at most, in their order; of a closed set's answers equal shares as far as they go."""
    found = counts(rows)
    if not closed(found):
        return list(rows[:samples])
    left, room = samples, {}
    for place, (answer, count) in enumerate(sorted(found.items(), key=lambda item: (item[1], item[0]))):
        room[answer] = min(count, -(-left // (len(found) - place)))
        left -= room[answer]
    taken: list[Row] = []
    for row in rows:
        if room[_key(row)]:
            room[_key(row)] -= 1
            taken.append(row)
    return taken


def _key(row: Row) -> str:
    return json.dumps(row["answer"], sort_keys=True, ensure_ascii=False)
