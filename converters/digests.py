"""Digests of a source's files, taken by a thread of its own while their content is read."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from zoo.errors import UsageError

_PIECE_BYTES = 1 << 20  # larger than hashlib's own: between pieces it waits for its turn among the threads
State = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A digest, and what the file was when it was taken."""

    sha256: str
    state: State


class Digests(Mapping[str, str]):
    """The sha256 of files, by name: awaited where they are asked for, begun when this is made."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Begins.

        Args:
            paths: the files, each with another name.
        """
        self._paths = {path.name: path for path in paths}
        self._futures: dict[str, Future[_Taken]] = {name: Future() for name in self._paths}
        # hashing lets other threads run; a process that ends for another reason does not wait for it
        Thread(target=self._take, daemon=True, name="digests").start()

    def __getitem__(self, name: str) -> str:
        """One file's digest, in hex.

        Raises:
            OSError: the file cannot be read.
        """
        return self._futures[name].result().sha256

    def __iter__(self) -> Iterator[str]:
        """File names, without waiting."""
        return iter(self._paths)

    def __len__(self) -> int:
        """Number of files."""
        return len(self._paths)

    def check(self) -> None:
        """Refuses files that are no longer what their digests were taken of.

        Raises:
            UsageError: one changed since.
            OSError: one cannot be read.
        """
        for name, path in self._paths.items():
            with path.open("rb") as stream:
                now = state_of(stream.fileno())
            if self._futures[name].result().state != now:
                raise UsageError(f"{name} changed while it was read", hint="run it again when it is finished")

    def _take(self) -> None:
        for name, future in self._futures.items():
            try:
                future.set_result(_taken(self._paths[name]))
            except Exception as error:
                future.set_exception(error)


def _taken(path: Path) -> _Taken:
    digest, room = hashlib.sha256(), bytearray(_PIECE_BYTES)
    view = memoryview(room)
    with path.open("rb", buffering=0) as stream:
        state = state_of(stream.fileno())
        while count := stream.readinto(room):
            digest.update(view[:count])
    return _Taken(sha256=digest.hexdigest(), state=state)


def state_of(descriptor: int) -> State:
    """What tells an open file's content from an earlier one: its identity, size and last change."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
