"""Regular expressions that somebody else wrote: whether matching one can be made expensive.

Python's matcher tries every way to match; a schema's pattern meets a reply that its author did not write. So
the ways are counted beforehand: what branches or repeats between limits multiplies, and what repeats without
limit may stand once and may hold nothing that matches in two ways.
"""

import math
import re
from typing import Any

MAX_LENGTH = 300
MAX_WAYS = 1_000
MAX_WAYS_ENDLESS = 10  # the text's length multiplies these
FORBIDDEN = frozenset({"GROUPREF", "GROUPREF_EXISTS", "ASSERT", "ASSERT_NOT"})
REPEATS = frozenset({"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"})


class PatternError(ValueError):
    """A pattern that is refused."""


def check_pattern(pattern: str) -> None:
    """Refuses a pattern that is no regular expression or that can be expensive.

    Raises:
        PatternError: the reason.
    """
    if len(pattern) > MAX_LENGTH:
        raise PatternError(f"a pattern of more than {MAX_LENGTH} characters")
    try:
        from re import _parser  # type: ignore[attr-defined]  # the matcher's own reading of the pattern

        tree = _parser.parse(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise PatternError(f"the pattern is no regular expression: {error}") from None
    ways, endless = _ways(tree)
    if endless > 1:
        raise PatternError("a pattern may repeat without limit once: bound the others, as in {0,20}")
    if ways > (MAX_WAYS_ENDLESS if endless else MAX_WAYS):
        raise PatternError("a pattern that can match in too many ways: bound its repeats, or take an enum")


def _ways(tree: Any) -> tuple[float, int]:
    """In how many ways a part can match one text, and how many repeats without limit it has."""
    from re import _constants  # type: ignore[attr-defined]

    ways, endless = 1.0, 0
    for operation, argument in tree:
        name = str(operation)
        if name in FORBIDDEN:
            raise PatternError("a pattern may neither look around nor refer back")
        if name in REPEATS:
            least, most, inner = argument
            inner_ways, inner_endless = _ways(inner)
            if most is _constants.MAXREPEAT:
                if inner_ways > 1 or inner_endless:
                    raise PatternError("a pattern repeats without limit what repeats or branches")
                endless += 1
            else:
                if inner_endless and most > 1:
                    raise PatternError("a pattern repeats what repeats without limit")
                endless += inner_endless
                ways *= sum(inner_ways**count for count in range(least, min(most, MAX_WAYS) + 1))
                ways = math.inf if most - least > MAX_WAYS else ways
        elif name == "BRANCH":
            found = [_ways(branch) for branch in argument[1]]
            ways *= sum(one for one, _ in found)
            endless += max(count for _, count in found)
        elif name in ("SUBPATTERN", "ATOMIC_GROUP"):
            inner_ways, inner_endless = _ways(argument[-1] if name == "SUBPATTERN" else argument)
            ways, endless = ways * inner_ways, endless + inner_endless
        if ways > MAX_WAYS:
            raise PatternError(
                "a pattern that can match in too many ways: bound its repeats, or take an enum"
            )
    return ways, endless
