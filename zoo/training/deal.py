"""The order in which samples are drawn: every epoch a permutation, dealt to lanes so that processes share it.

A prefix is kept by one process, so a sample should come to the same process in every epoch, and yet every
step should give all processes equally many. Samples therefore lie in lanes, which are visited in turn; lanes
are given to processes. How many processes there are changes nothing about which samples a step has.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

LANES = 8  # processes that can share a step: 1, 2, 4, 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deal:
    """Samples in lanes.

    Attributes:
        lanes: a power of two of them, with equally many samples each.
        rest: samples, fewer than lanes, that come to another lane every epoch.
    """

    lanes: Sequence[Sequence[int]]
    rest: Sequence[int] = ()

    @classmethod
    def of(cls, prefixes: Sequence[tuple[int, ...]], *, lanes: int = LANES) -> Self:
        """Deals samples so that those whose prefixes begin alike come to one lane or to neighbours.

        Args:
            prefixes: token ids of each sample's.
            lanes: a power of two.
        """
        order, size = _alike(prefixes), len(prefixes) // lanes
        return cls(
            lanes=[order[lane * size : (lane + 1) * size] for lane in range(lanes)],
            rest=order[lanes * size :],
        )

    @classmethod
    def plain(cls, samples: int) -> Self:
        """All samples in one lane: any permutation, and one process."""
        return cls(lanes=[range(samples)])

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(map(len, self.lanes)) + len(self.rest)

    def draw(self, first: int, count: int, *, seed: int) -> list[tuple[int, int]]:
        """Some samples of the endless order, each with the lane it is drawn for.

        Args:
            first: how many were drawn before.
            count: how many.
            seed: of the order, besides which it depends on nothing else.
        """
        size = self.samples
        return [_epoch(self, seed, place // size)[place % size] for place in range(first, first + count)]

    def owner(self, lane: int, processes: int) -> int:
        """The process that runs what is drawn for a lane; a process's lanes are neighbours."""
        return lane * processes // len(self.lanes)

    def held(self, process: int, processes: int) -> list[int]:
        """The samples that a process runs in some epoch: those of its lanes, and the rest."""
        mine = [
            row
            for lane, rows in enumerate(self.lanes)
            if self.owner(lane, processes) == process
            for row in rows
        ]
        return sorted([*mine, *self.rest])


def portion(prefixes: Sequence[tuple[int, ...]], process: int, processes: int) -> list[int]:
    """A process's part of samples that are each run once, those whose prefixes begin alike together.

    Args:
        prefixes: token ids of each sample's.
        process: counted from 0.
        processes: how many.
    """
    order = _alike(prefixes)
    begin, end = (len(order) * number // processes for number in (process, process + 1))
    return sorted(order[begin:end])


def _alike(prefixes: Sequence[tuple[int, ...]]) -> list[int]:
    """Samples in an order in which what prefixes begin with alike lies together."""
    return sorted(range(len(prefixes)), key=prefixes.__getitem__)


@lru_cache(maxsize=4)
def _epoch(deal: Deal, seed: int, epoch: int) -> list[tuple[int, int]]:
    """Every sample once, with its lane."""
    source = random.Random(f"{seed}/{epoch}")
    *waiting, rest = ([*rows] for rows in (*deal.lanes, deal.rest))
    for rows in (*waiting, rest):
        source.shuffle(rows)
    turns = _turns(deal, epoch, source)
    for lane, rows in enumerate(waiting):
        if turns.count(lane) > len(rows):  # by one at most: lanes are visited in turn
            rows.insert(source.randrange(len(rows) + 1), rest.pop())
    given = [iter(rows) for rows in waiting]
    return [(next(given[lane]), lane) for lane in turns]


def _turns(deal: Deal, epoch: int, source: random.Random) -> list[int]:
    """The lane of every place of an epoch.

    Rounds go through over the epochs' ends. One that two epochs share is in a fixed order, so that its two
    parts visit every lane once; the others are in an order of their own, which mixes who meets whom.
    """
    count, size = len(deal.lanes), deal.samples
    begin, end = epoch * size, (epoch + 1) * size
    found: list[int] = []
    for first in range(begin - begin % count, end, count):
        whole = begin <= first and first + count <= end
        turn = _turn(0, count, source if whole else None)
        found += turn[max(0, begin - first) : end - first]
    return found


def _turn(lane: int, count: int, source: random.Random | None) -> list[int]:
    """Lanes in an order whose every aligned 2, 4, … are spread over halves, quarters and so on."""
    if count == 1:
        return [lane]
    half = count // 2
    parts = [_turn(lane, half, source), _turn(lane + half, half, source)]
    if source is not None and source.random() < 0.5:
        parts.reverse()
    return [one for pair in zip(*parts, strict=True) for one in pair]
