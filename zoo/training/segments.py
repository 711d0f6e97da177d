"""The prefixes of samples as a tree of segments: what several begin with is one segment, held once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SHORTEST = 16  # tokens; a shorter common beginning costs every later pass more than it saves once
LONGEST = 4096  # tokens of one pass: what its layers hold beside the keys and values grows with them


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of tokens that follows its parent segment.

    Attributes:
        parent: index of the segment before it; -1 where a prefix begins.
        start: position of its first token.
        ids: its tokens.
    """

    parent: int
    start: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Segments, parents before children, and where each prefix ends among them.

    Attributes:
        segments: all of them.
        ends: by prefix, the index of its last segment; -1 for an empty one.
    """

    segments: Sequence[Segment]
    ends: Sequence[int]

    def path(self, row: int) -> list[int]:
        """The segments of a prefix, its beginning first."""
        return self.line(self.ends[row])

    def line(self, segment: int) -> list[int]:
        """A segment and all before it, the first of them first; none for -1."""
        found = []
        while segment >= 0:
            found.append(segment)
            segment = self.segments[segment].parent
        return found[::-1]

    def packs(self, tokens: int) -> list[list[int]]:
        """Segments that are run together: those with one parent in order, up to a number of tokens.

        What is run together decides how sums are rounded, so it follows from the prefixes alone, never from
        what happens to be in memory. Parents come before children.

        Args:
            tokens: of one pass; a longer segment is run alone.
        """
        found: list[list[int]] = []
        last: dict[int, tuple[list[int], int]] = {}
        for index, segment in enumerate(self.segments):
            pack, used = last.get(segment.parent, ([], tokens))
            if used + len(segment.ids) > tokens:
                pack, used = [], 0
                found.append(pack)
            pack.append(index)
            last[segment.parent] = (pack, used + len(segment.ids))
        return found


def tree_of(prefixes: Sequence[tuple[int, ...]], *, shortest: int = SHORTEST, longest: int = LONGEST) -> Tree:
    """The tree of some prefixes.

    Args:
        prefixes: token ids.
        shortest: a beginning that several have in common is a segment of its own from this length on.
        longest: what is longer is cut into segments of this length that follow one another.
    """
    first: dict[tuple[int, ...], int] = {}
    for row, prefix in enumerate(prefixes):
        first.setdefault(prefix, row)
    # found in sorted order, where what is alike lies together; numbered in the order of first use
    distinct = sorted(prefix for prefix in first if prefix)
    spans = list(_spans(distinct, shortest))
    used = [min(first[distinct[i]] for i in range(lo, hi)) for lo, hi, _, _, _ in spans]
    order = sorted(range(len(spans)), key=lambda i: (used[i], spans[i][2]))
    last: dict[int, int] = {-1: -1}  # by span, the last of its segments
    segments: list[Segment] = []
    ends: dict[tuple[int, ...], int] = {(): -1}
    for old in order:
        lo, hi, start, stop, parent = spans[old]
        above = last[parent]
        for begin in range(start, stop, longest):
            ids = distinct[lo][begin : min(begin + longest, stop)]
            segments.append(Segment(parent=above, start=begin, ids=ids))
            above = len(segments) - 1
        last[old] = above
        for prefix in distinct[lo:hi]:
            if len(prefix) == stop:
                ends[prefix] = above
    return Tree(segments=segments, ends=[ends[prefix] for prefix in prefixes])


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences have in common from their start on."""
    if first[: len(second)] == second or second[: len(first)] == first:  # compared in C
        return min(len(first), len(second))
    return next(index for index, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)


def _spans(distinct: Sequence[tuple[int, ...]], shortest: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Segments as first and last-but-one prefix, first and last-but-one token, and parent's number."""
    waiting, found = [(0, len(distinct), 0, -1)], 0
    while waiting:
        lo, hi, start, parent = waiting.pop()
        while lo < hi:
            # sorted: those that begin as the first does follow it, with ever less in common
            end = lo + 1
            while end < hi and common_length(distinct[lo], distinct[end]) >= start + shortest:
                end += 1
            stop = common_length(distinct[lo], distinct[end - 1])
            yield lo, end, start, stop, parent
            rest = lo + (len(distinct[lo]) == stop)
            if rest < end:
                waiting.append((rest, end, stop, found))
            found += 1
            lo = end
