"""What lies in an adapter folder, without following anything out of it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.errors import RefusedError
from zoo.provenance import BOOKKEEPING

MAX_ENTRIES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in the folder that is not a folder.

    Attributes:
        name: path relative to the folder, with `/`.
        kind: a regular file, a symbolic link, or anything else (socket, device, named pipe).
        size_bytes: of a regular file, or of the file a trusted link leads to; else 0.
    """

    name: str
    kind: Literal["file", "link", "other"]
    size_bytes: int = 0

    @property
    def suffix(self) -> str:
        """The lower-case suffix with its dot, or an empty string."""
        return os.path.splitext(self.name)[1].lower()


def entries(root: Path) -> Sequence[Entry]:
    """Everything below a folder, sorted by name; what git and the Hub client keep for themselves is left out.

    A link from the Hub client's cache into its own store counts as the file it stands for, because that is
    how every downloaded snapshot looks.

    Raises:
        RefusedError: ZF004, more than 1,000 entries.
    """
    return sorted(_walk(root), key=lambda entry: entry.name)


def _walk(root: Path) -> Iterator[Entry]:
    pending, seen = [root], 0
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as children:
            for child in children:
                path = Path(child.path)
                if folder == root and child.name in BOOKKEEPING:
                    continue
                seen += 1
                if seen > MAX_ENTRIES:
                    raise RefusedError(f"{root.name} holds more than {MAX_ENTRIES:,} files", code="ZF004")
                if child.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    yield _entry(path, path.relative_to(root).as_posix())


def _entry(path: Path, name: str) -> Entry:
    if path.is_symlink():
        if not _in_hub_store(path):
            return Entry(name=name, kind="link")
    elif not path.is_file():
        return Entry(name=name, kind="other")
    return Entry(name=name, kind="file", size_bytes=path.stat().st_size)


def _in_hub_store(link: Path) -> bool:
    """Whether a link is `…/snapshots/<commit>/…` → `…/blobs/<digest>` of one repository in the cache."""
    target = link.resolve()
    repository = target.parent.parent
    return (
        target.parent.name == "blobs"
        and target.is_file()
        and link.parent.resolve().is_relative_to(repository / "snapshots")
    )
