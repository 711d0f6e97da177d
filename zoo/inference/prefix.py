"""The base model's keys and values of conversations, held within a byte budget and never written into."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    Layers = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CachedSequence:
    """KV of one token sequence by the base; prefixes are cut from it.

    Attributes:
        ids: the tokens.
        layers: keys and values a layer, each `[1, heads, tokens, head]`; nobody may write into them.
    """

    ids: tuple[int, ...]
    layers: "Layers"

    @property
    def nbytes(self) -> int:
        """Bytes of the keys and values."""
        return sum(part.nbytes for pair in self.layers for part in pair)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefix:
    """The first tokens of a sequence.

    Attributes:
        sequence: holds at least so many tokens.
        length: how many are meant; 0 is a prompt that begins with the adapter.
    """

    sequence: CachedSequence
    length: int

    def __len__(self) -> int:
        """How many tokens."""
        return self.length

    @property
    def ids(self) -> tuple[int, ...]:
        """The tokens."""
        return self.sequence.ids[: self.length]

    @property
    def layers(self) -> "Layers":
        """Keys and values a layer, `[1, heads, length, head]`: views, not copies."""
        return [
            (keys[..., : self.length, :], values[..., : self.length, :])
            for keys, values in self.sequence.layers
        ]


class PrefixCache:
    """Sequences of several conversations; the least recently used go when their bytes exceed the budget."""

    def __init__(self, budget: int) -> None:
        """Starts with none.

        Args:
            budget: bytes of keys and values that may be held.
        """
        self.budget = budget
        self._held: list[CachedSequence] = []  # the least recently used first

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(sequence.nbytes for sequence in self._held)

    def longest(self, ids: tuple[int, ...]) -> Prefix | None:
        """The longest held prefix of ids, of at least one token."""
        best: Prefix | None = None
        for sequence in self._held:
            length = common_length(sequence.ids, ids)
            if length > (best.length if best else 0):
                best = Prefix(sequence=sequence, length=length)
        if best:
            self._held.remove(best.sequence)
            self._held.append(best.sequence)
        return best

    def hold(self, sequence: CachedSequence) -> None:
        """Keeps a sequence, in place of those it continues; one that exceeds the whole budget is not kept."""
        if sequence.nbytes > self.budget:
            return
        self._held = [old for old in self._held if sequence.ids[: len(old.ids)] != old.ids]
        self._held.append(sequence)
        while self.nbytes > self.budget:
            del self._held[0]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences have in common from their start on, by bisection over slices."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
