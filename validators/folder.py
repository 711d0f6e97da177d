"""What lies in an adapter folder, without following anything out of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo.provenance import is_hollow, walk


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in the folder that is not a folder.

    Attributes:
        name: path relative to the folder, with `/`.
        kind: a regular file, a symbolic link, or anything else (socket, device, named pipe).
        size_bytes: of a regular file, or of the file a trusted link leads to; else 0.
        names: how many names the file has on this disk, of which one is this.
        hollow: it is a hole for the most part, which takes no room on the disk.
    """

    name: str
    kind: Literal["file", "link", "other"]
    size_bytes: int = 0
    names: int = 1
    hollow: bool = False

    @property
    def suffix(self) -> str:
        """The lower-case suffix with its dot, or an empty string."""
        return os.path.splitext(self.name)[1].lower()


def entries(root: Path) -> Sequence[Entry]:
    """Everything below a folder, sorted by name; what git and the Hub client keep for themselves is left out.

    A link from the Hub client's cache into its own store counts as the file it stands for, because that is
    how every downloaded snapshot looks.

    Raises:
        RefusedError: ZF004, more than 1,000 entries, or nested too deep.
    """
    found = (_entry(path, path.relative_to(root).as_posix()) for path in walk(root))
    return sorted(found, key=lambda entry: entry.name)


def _entry(path: Path, name: str) -> Entry:
    linked = path.is_symlink()
    if linked:
        if not _in_hub_store(path):
            return Entry(name=name, kind="link")
    elif not path.is_file():
        return Entry(name=name, kind="other")
    status = path.stat()
    return Entry(
        name=name,
        kind="file",
        size_bytes=status.st_size,
        names=1 if linked else status.st_nlink,
        hollow=is_hollow(status),
    )


def _in_hub_store(link: Path) -> bool:
    """Whether a link is `…/snapshots/<commit>/…` → `…/blobs/<digest>` of one repository in the cache."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        return False
    repository = target.parent.parent
    return (
        target.parent.name == "blobs"
        and target.is_file()
        and link.parent.resolve().is_relative_to(repository / "snapshots")
    )
