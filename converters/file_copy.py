"""Copies of whole files by the kernel, and writing that reaches the disk while more is made.

A release is on the disk before it gets its name. Whoever writes everything and then asks for that waits for
all of it at the end; asked for piece by piece, the disk works while the processor does.
"""

import os
from pathlib import Path
from typing import Any

PIECE_BYTES = 16 << 20


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's content, as a shared extent where the file system can.

    Raises:
        OSError: the source cannot be read, or the target not be written.
    """
    with source.open("rb", buffering=0) as reader, target.open("wb", buffering=0) as writer:
        begun = 0
        while _piece(reader, writer):
            begun = begin_writing(writer, begun)


def begin_writing(stream: Any, begin: int) -> int:
    """Lets the disk begin on what a file got since `begin`; where it has come to.

    Linux writes dirty pages out when it is told that they are not needed soon, and keeps those in memory
    that are still on their way. Elsewhere nothing happens.
    Source: Linux, mm/fadvise.c, `generic_fadvise`.
    """
    stream.flush()
    end: int = stream.tell()
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(stream.fileno(), begin, end - begin, os.POSIX_FADV_DONTNEED)
    return end


def _piece(reader: Any, writer: Any) -> int:
    """Copies the next piece; how long it was, 0 at the end."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(reader.fileno(), writer.fileno(), PIECE_BYTES)
        except OSError:  # two file systems, or one that cannot: what was copied stays copied
            pass
    content = reader.read(PIECE_BYTES)
    view = memoryview(content)
    while view:
        view = view[writer.write(view) :]
    return len(content)
