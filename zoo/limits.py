"""A bound on the time and memory of work whose input somebody else made."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from zoo.errors import UndecidedError


class LimitError(UndecidedError):
    """Work took longer than it may."""


@contextmanager
def limited(what: str, *, seconds: float, memory: int) -> Iterator[None]:
    """Bounds the work in the block, in this process.

    Time is bounded in the main thread only, where a signal can interrupt Python code and regular expressions.
    Memory is bounded on Linux: an allocation beyond the limit fails as if there were no more, with a
    MemoryError or the allocating library's own error. Both end with the block.

    Args:
        what: names the work in the error.
        seconds: wall time.
        memory: bytes that the process's data may grow by.

    Raises:
        LimitError: the time is over.
    """
    with _time(what, seconds), _memory(memory):
        yield


def few_values(raw: bytes, most: int) -> None:
    """Refuses a JSON text that holds too many values, before a parser makes objects of them.

    Every value but the first stands behind a comma or an opening bracket; those within strings are counted
    too, so that the count is never too low. A few bytes of text can become a hundred times as many in memory.

    Args:
        raw: the text.
        most: how many are let through.

    Raises:
        ValueError: there may be more.
    """
    if sum(map(raw.count, (b",", b"[", b"{"))) > most:
        raise ValueError(f"it holds more than {most:,} values")


@contextmanager
def _time(what: str, seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def over(number: int, frame: FrameType | None) -> None:
        raise LimitError(f"{what} took longer than {seconds:g} s", hint="what it read is damaged or hostile")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _memory(growth: int) -> Iterator[None]:
    used = data_bytes()
    if used is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + growth
    for bound in (soft, hard):
        wanted = wanted if bound == resource.RLIM_INFINITY else min(wanted, bound)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def data_bytes() -> int | None:
    """Bytes of private writable memory this process has mapped, or None where the system does not say.

    It is what Linux (since 4.7) holds against RLIMIT_DATA. Source: man 2 setrlimit, man 5 proc (VmData).
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith("VmData:"))
    return next((int(kib) * 1024 for kib in found), None)
