"""The hidden folder beside an output in which a run keeps its state, used by one run at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import UsageError


def work_of(target: Path) -> Path:
    """The work folder of an output, claimed or not."""
    return target.parent / f".{target.name}.training"


@contextmanager
def claimed_work(target: Path) -> Iterator[Path]:
    """Yields the work folder of an output; it is removed when the block ends without an exception.

    The claim is the operating system's lock on a file beside it, so a killed run leaves none behind.

    Args:
        target: the output folder, `OUT`; the work folder is `.OUT.training` beside it.

    Raises:
        UsageError: ZD007, another run has it.
        OSError: the file system knows no locks, or is not writable.
    """
    work = work_of(target)
    path = Path(f"{work}.lock")
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor, target)
        try:
            yield work
            shutil.rmtree(work, ignore_errors=True)
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # without a name, the run that had it has ended between our opening and locking it
        taken = os.fstat(descriptor).st_nlink == 0
    except BlockingIOError:
        taken = True
    if taken:
        owner = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "unknown"
        raise UsageError(
            f"another run is training {target} at this moment (process {owner})",
            hint="wait for it, or name another output folder",
            code="ZD007",
        )
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
