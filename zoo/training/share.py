"""A part of a prefix store: some of its samples, on keys and values that are computed once for all."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.progress import Progress, silent
from zoo.training.entry import Entry
from zoo.training.prefix import PrefixStore

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache


class StorePart(PrefixStore):
    """Consecutive samples of a store, counted from 0."""

    def __init__(self, whole: PrefixStore, begin: int, end: int) -> None:
        """Takes the samples `begin` to `end` - 1 of a store."""
        super().__init__(whole.model, whole.samples[begin:end], adapted=whole.adapted)
        self._whole = whole
        self._begin = begin

    @property
    def kept_bytes(self) -> int:
        """Bytes that the whole store holds."""
        return self._whole.kept_bytes

    def fill(self, progress: Progress = silent) -> None:
        """Fills the whole store."""
        self._whole.fill(progress)

    def note(self) -> str:
        """Where the whole store's prefixes are."""
        return self._whole.note()

    def entries(self, rows: Sequence[int]) -> list[list[Entry]]:
        """See `PrefixStore.entries`."""
        return self._whole.entries(self._rows(rows))

    def batch(self, rows: Sequence[int]) -> tuple["DynamicCache", "Tensor"]:
        """See `PrefixStore.batch`."""
        return self._whole.batch(self._rows(rows))

    def prefetch(self, rows: Sequence[int]) -> None:
        """See `PrefixStore.prefetch`."""
        self._whole.prefetch(self._rows(rows))

    def _rows(self, rows: Sequence[int]) -> list[int]:
        return [self._begin + row for row in rows]
