"""Prefix stores that look at another: at a part of its samples, or as one of several that divide a task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.progress import Progress, silent
from zoo.training.dataset import Encoded
from zoo.training.entry import Entry
from zoo.training.peers import Peers
from zoo.training.prefix import PrefixStore

if TYPE_CHECKING:
    from peft import PeftModel


class StoreView(PrefixStore):
    """Samples whose prefixes are kept by another store."""

    def __init__(
        self, whole: PrefixStore, samples: Sequence[Encoded], places: Mapping[int, int] | Sequence[int]
    ) -> None:
        """Looks at a store.

        Args:
            whole: keeps the prefixes.
            samples: of this view.
            places: the sample of `whole` that each is; those that have none must not be asked for.
        """
        super().__init__(whole.model, samples, adapted=whole.adapted)
        self._whole = whole
        self._places = places

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

    def entries(self, rows: Sequence[int], *, lying: bool = False) -> list[list[Entry]]:
        """See `PrefixStore.entries`."""
        return self._whole.entries(self.places(rows), lying=lying)

    def prefetch(self, rows: Sequence[int]) -> None:
        """See `PrefixStore.prefetch`."""
        self._whole.prefetch(self.places(rows))

    @property
    def whole(self) -> PrefixStore:
        """The store that keeps the prefixes."""
        return self._whole

    def places(self, rows: Sequence[int]) -> list[int]:
        """The samples of the whole store that some of these are."""
        return [self._places[row] for row in rows]


class StorePart(StoreView):
    """Consecutive samples of a store, counted from 0."""

    def __init__(self, whole: PrefixStore, begin: int, end: int) -> None:
        """Takes the samples `begin` to `end` - 1 of a store."""
        super().__init__(whole, whole.samples[begin:end], range(begin, end))
        self._begin = begin

    @property
    def peers(self) -> Peers:
        """Those of the whole store."""
        return self._whole.peers

    @property
    def held(self) -> Sequence[int]:
        """See `PrefixStore.held`."""
        rows = (row - self._begin for row in self._whole.held)
        return [row for row in rows if 0 <= row < len(self.samples)]


class DealtStore(StoreView):
    """All samples of a task, of whose prefixes this process keeps its own."""

    def __init__(
        self, whole: PrefixStore, samples: Sequence[Encoded], places: Mapping[int, int], peers: Peers
    ) -> None:
        """Looks at the store of this process; see `StoreView`."""
        super().__init__(whole, samples, places)
        self._peers = peers

    @property
    def peers(self) -> Peers:
        """The processes that keep the prefixes of all samples."""
        return self._peers

    @property
    def held(self) -> Sequence[int]:
        """The samples whose prefixes this process keeps."""
        return list(self._places)


def dealt_stores(
    model: "PeftModel",
    tasks: Mapping[str, tuple[Sequence[Encoded], Sequence[int]]],
    peers: Peers,
    *,
    disk: Path | None = None,
) -> dict[str, DealtStore]:
    """Stores of several tasks, each a view of one that keeps this process's samples of all of them.

    Args:
        model: base and adapter.
        tasks: by name, all samples, and which of them this process runs.
        peers: the processes that run them together.
        disk: see `PrefixStore`.
    """
    mine = [samples[row] for samples, rows in tasks.values() for row in rows]
    whole = PrefixStore(model, mine, sharers=peers.count, disk=disk)
    found: dict[str, DealtStore] = {}
    begin = 0
    for name, (samples, rows) in tasks.items():
        places = {row: begin + place for place, row in enumerate(rows)}
        found[name] = DealtStore(whole, samples, places, peers)
        begin += len(rows)
    return found
