"""Contents by digest, one file each."""

import hashlib
import os
import tempfile
from pathlib import Path


class BlobStore:
    """A folder of contents named by their sha256. A blob is complete or absent, also after a kill."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made if it is not there."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __contains__(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def add(self, content: bytes) -> str:
        """Store a content and return its sha256 (64 hex digits)."""
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self:
            write_atomically(self.path(sha256), content)
        return sha256

    def size(self, sha256: str) -> int:
        """Return a stored content's length in bytes."""
        return self.path(sha256).stat().st_size

    def read(self, sha256: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes from `start` (inclusive) to `stop` (exclusive; the end if None)."""
        with self.path(sha256).open("rb") as file:
            file.seek(start)
            return file.read() if stop is None else file.read(stop - start)

    def path(self, sha256: str) -> Path:
        """Return the file that holds a content, or would hold it."""
        return self._folder / sha256


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file so that a reader, or a successor of a killed process, sees the old or the new content."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
