"""Where stored keys and values lie: device, host memory, disk; the fastest with room, under a budget."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.training.entry import Entry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DEVICE, HOST, DISK = "device", "host", "disk"
_SHARE = 0.5  # of what is free that a tier takes unless told
_SPARE = 0.15  # of a device's memory that is left to activations and graphs
_AHEAD = 512 << 20  # bytes that are brought before they are asked for: they lie on the device twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many bytes of stored prefixes each tier may hold.

    Attributes:
        device: bytes of a CUDA device's memory; where the model runs on the CPU there is no such tier.
        host: bytes of the host's memory, pinned when a device reads them.
        disk: bytes of files under `folder`.
        folder: where those files are made; they are removed with the store. None is no such tier.
    """

    device: int = 0
    host: int = 0
    disk: int = 0
    folder: Path | None = None

    @classmethod
    def automatic(cls, device: "torch.device", *, folder: Path | None = None, sharers: int = 1) -> "Budget":
        """What is free now: a device's memory but for a spare part, half of the host's, half of the disk's.

        Args:
            device: where the model runs.
            folder: takes the files of a disk tier, and is made if it is not there; None is none.
            sharers: processes that do the same here, each on a device of its own; the rest they divide.
        """
        import torch

        free = 0
        if device.type == "cuda":
            # blocks that torch holds and does not use are free to us
            held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            unused, whole = torch.cuda.mem_get_info(device)
            free = max(0, unused + held - int(_SPARE * whole))
        share = _SHARE / sharers
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        disk = int(share * shutil.disk_usage(folder).free) if folder else 0
        return cls(device=free, host=int(share * free_host_bytes()), disk=disk, folder=folder)


def free_host_bytes() -> int:
    """Bytes of memory that this process could still take: the machine's, or its control group's if less."""
    page = os.sysconf("SC_PAGE_SIZE")
    free = page * os.sysconf("SC_AVPHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit.isdigit():
            free = min(free, int(limit) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, StopIteration, ValueError):  # another system: what it says itself is all there is
        pass
    return max(0, free)


class Tiers:
    """Entries by number, each in the fastest tier that had room."""

    def __init__(self, device: "torch.device", budget: Budget) -> None:
        """Nothing is taken yet.

        Args:
            device: where entries are read.
            budget: see `Budget`.
        """
        self.budget = budget
        self.used = dict.fromkeys((DEVICE, HOST, DISK), 0)
        self._device = device
        self._cuda = device.type == "cuda"
        self._entries: dict[int, tuple[str, Entry]] = {}
        self._coming: dict[int, tuple[Future[Tensor] | Tensor, Any]] = {}
        self._recent: frozenset[int] = frozenset()
        self._pinned: Any = None
        self._stored: Any = None  # when the last entry was on its way to the host
        self._files: Path | None = None
        self._reader: ThreadPoolExecutor | None = None

    def __contains__(self, number: int) -> bool:
        """Whether an entry is kept."""
        return number in self._entries

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._entries)

    def put(self, number: int, entry: Entry) -> str:
        """Keeps an entry in the fastest tier that has room for it.

        Returns:
            The tier; empty if none had room.
        """
        room = {DEVICE: self.budget.device if self._cuda else 0, HOST: self.budget.host}
        room[DISK] = self.budget.disk if self.budget.folder else 0
        for tier, limit in room.items():
            if self.used[tier] + entry.nbytes <= limit:
                self._entries[number] = (tier, self._moved(number, entry, tier))
                self.used[tier] += entry.nbytes
                return tier
        return ""

    def get(self, number: int) -> Entry:
        """A kept entry, on the device where it is read."""
        import torch

        tier, entry = self._entries[number]
        if tier == DEVICE or not self._cuda:
            return entry
        if number not in self._coming:
            self._coming[number] = self._fetch(tier, entry)
        flat, arrived = self._coming.pop(number)
        if isinstance(flat, Future):
            return entry.at(flat.result().to(self._device, non_blocking=True))
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(arrived)
        flat.record_stream(stream)
        return entry.at(flat)

    def lying(self, number: int) -> Entry:
        """A kept entry: on the device or on its way there, else in pinned memory if it is kept in that.

        Who only copies it to a place on the device needs no other copy beside.
        """
        tier, entry = self._entries[number]
        return entry if tier == HOST and number not in self._coming else self.get(number)

    def prefetch(self, numbers: Sequence[int]) -> None:
        """Begins to bring entries nearer; `get` then waits for no more than the rest of the way.

        What the call before the last one brought and nobody asked for is let go. Of more than a limit the
        rest is left for `get`: what has come takes memory of the device twice.
        """
        wanted = {*numbers, *self._recent}
        self._coming = {number: one for number, one in self._coming.items() if number in wanted}
        self._recent = frozenset(numbers)
        coming = sum(self._entries[number][1].nbytes for number in self._coming)
        for number in numbers:
            tier, entry = self._entries.get(number, ("", None))
            if entry is None or number in self._coming or tier == DEVICE:
                continue
            if self._cuda and coming + entry.nbytes <= _AHEAD:
                self._coming[number] = self._fetch(tier, entry)
                coming += entry.nbytes
            elif tier == DISK:
                _read_ahead(self._path(number))

    def _fetch(self, tier: str, entry: Entry) -> "tuple[Future[Tensor] | Tensor, Any]":
        import torch

        if tier == DISK:
            if self._reader is None:
                self._reader = ThreadPoolExecutor(1, thread_name_prefix="prefix-reader")
            return self._reader.submit(entry.flat.pin_memory), None
        side = _side_stream(self._device)
        side.wait_event(self._stored)  # its own way to the host may not be over
        with torch.cuda.stream(side):
            flat = entry.flat.to(self._device, non_blocking=True)
            arrived = _marked(side)
        return flat, arrived

    def _moved(self, number: int, entry: Entry, tier: str) -> Entry:
        if tier == DEVICE:
            return entry
        if tier == DISK:
            return entry.at(self._written(number, entry))
        if not self._cuda:
            return entry.at(entry.flat.cpu())
        import torch

        if self._pinned is None:
            from zoo.training.pinned import Pinned

            self._pinned = Pinned(self.budget.host)
        moved = entry.at(self._pinned.take(entry.flat))
        self._stored = _marked(torch.cuda.current_stream(self._device))
        return moved

    def _written(self, number: int, entry: Entry) -> "Tensor":
        """The numbers in a file of their own, mapped into memory: read when touched, dropped when needed."""
        from safetensors import safe_open
        from safetensors.torch import save_file

        path = self._path(number)
        save_file({"kv": entry.flat.cpu()}, path)
        with safe_open(path, framework="pt") as file:
            mapped: Tensor = file.get_tensor("kv")
        return mapped

    def _path(self, number: int) -> Path:
        if self._files is None:
            self._files = Path(tempfile.mkdtemp(prefix="prefix-kv-", dir=self.budget.folder))
            weakref.finalize(self, shutil.rmtree, self._files, ignore_errors=True)
        return self._files / f"{number:08d}.safetensors"


def _read_ahead(path: Path) -> None:
    """Tells the system that a file is read soon."""
    if hasattr(os, "posix_fadvise"):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)


def _marked(stream: Any) -> Any:
    """An event at the present end of a stream."""
    import torch

    untyped: Any = torch.cuda.Event
    event = untyped()
    event.record(stream)
    return event


def _side_stream(device: "torch.device") -> Any:
    """The stream on which entries come to a device, beside the one that computes."""
    import torch

    if device not in _STREAMS:
        untyped: Any = torch.cuda.Stream
        _STREAMS[device] = untyped(device)
    return _STREAMS[device]


_STREAMS: "dict[torch.device, Any]" = {}
