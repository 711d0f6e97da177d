"""Folders and files that appear whole or not at all.

A new folder is written beside its target and renamed into place; an existing one is exchanged with its
successor in one system call. A process killed at any moment leaves the old state or the new one, and at
worst a hidden `.NAME.zoo-PID-*` folder beside it, which the next run removes.
"""

import ctypes
import errno
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import UsageError

_MARK = ".zoo-"
_AT_FDCWD = -100  # linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h
_RENAME_SWAP = 2  # macOS sys/stdio.h


@contextmanager
def staged_folder(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yields a new empty folder that becomes `target` when the block ends without an exception.

    Args:
        target: where the folder shall stand; its parents are made.
        replace: exchange an existing folder; otherwise an existing non-empty target is refused before
            any work is done.

    Raises:
        UsageError: `target` exists and `replace` is false, or it is a file.
        OSError: the disk is full, or permission is missing; `target` is untouched.
    """
    target = target.absolute()
    check_target(target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target)
    stage = Path(tempfile.mkdtemp(prefix=f".{target.name}{_MARK}{os.getpid()}-", dir=target.parent))
    stage.chmod(0o755)
    try:
        yield stage
        _sync_tree(stage)
        if target.exists():
            exchange(stage, target)
        else:
            stage.rename(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_target(target: Path, *, replace: bool = False) -> None:
    """Refuses a target that a staged folder could not become, before any work is done.

    Raises:
        UsageError: see `staged_folder`.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UsageError(f"{target} exists and is not a folder", hint="name another output folder")
    if target.exists() and not replace and any(target.iterdir()):
        raise UsageError(
            f"{target} exists and is not empty", hint="name another folder, or remove that one first"
        )


def remove_leftovers(target: Path) -> None:
    """Removes the stages that killed processes of this machine left beside `target`."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}{_MARK}*-*"):
        owner = leftover.name.rpartition(_MARK)[2].partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)


def write_file(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old content or the new one, never a part.

    Raises:
        OSError: the folder is missing or not writable.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}{_MARK}", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def exchange(first: Path, second: Path) -> None:
    """Swaps two existing folders of one file system in a single system call.

    Raises:
        OSError: the file system or the platform cannot do it; nothing has changed then.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin":
        code = libc.renamex_np(a, b, ctypes.c_uint(_RENAME_SWAP))
    elif hasattr(libc, "renameat2"):
        code = libc.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_RENAME_EXCHANGE))
    else:
        raise OSError(errno.ENOSYS, "this platform cannot exchange two folders", str(second))
    if code != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(second))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_tree(root: Path) -> None:
    for path in root.rglob("*"):
        _sync(path)
    _sync(root)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
