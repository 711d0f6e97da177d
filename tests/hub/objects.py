"""Git's objects as the Hub shows them: files, folders, commits, and the hashes that name them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of one commit; its path is the key under which a commit holds it.

    Attributes:
        size: Bytes of the content.
        oid: Git's name of the blob (40 hex digits). For an LFS file this is the blob of the *pointer*.
        sha256: Digest of the content (64 hex digits); under this name the content is stored.
        lfs: Whether the content is kept outside git.
        xet_hash: Name of the content in the Xet store, if it came that way.
    """

    size: int
    oid: str
    sha256: str
    lfs: bool
    xet_hash: str | None = None

    @property
    def etag(self) -> str:
        """What identifies the content to a downloader: the blob's oid, or the sha256 of an LFS file."""
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit: a complete listing of files, and where it came from."""

    oid: str
    parent: str | None
    title: str
    description: str
    author: str
    date: str
    files: Mapping[str, File]


def blob_oid(content: bytes) -> str:
    """Return git's name of a blob with this content."""
    return _git_hash("blob", content)


def regular_file(content: bytes) -> File:
    """Describe a file whose content is in git itself."""
    digest = hashlib.sha256(content).hexdigest()
    return File(size=len(content), oid=blob_oid(content), sha256=digest, lfs=False)


def lfs_file(sha256: str, size: int, xet_hash: str | None = None) -> File:
    """Describe a file of which git holds only a pointer."""
    return File(
        size=size, oid=blob_oid(lfs_pointer(sha256, size)), sha256=sha256, lfs=True, xet_hash=xet_hash
    )


def lfs_pointer(sha256: str, size: int) -> bytes:
    """Return the text that stands in git for an LFS file (git-lfs specification, version 1)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def tree_oid(files: Mapping[str, File]) -> str:
    """Return git's name of the folder that holds these files (paths relative to the folder)."""
    entries: dict[str, tuple[str, str]] = {}
    folders: dict[str, dict[str, File]] = {}
    for path, file in files.items():
        name, slash, rest = path.partition("/")
        if slash:
            folders.setdefault(name, {})[rest] = file
        else:
            entries[name] = ("100644", file.oid)
    # Git sorts a folder as if its name ended in a slash.
    entries |= {f"{name}/": ("40000", tree_oid(inside)) for name, inside in folders.items()}
    lines = [
        f"{mode} {name.removesuffix('/')}\0".encode() + bytes.fromhex(oid)
        for name, (mode, oid) in sorted(entries.items(), key=lambda entry: entry[0].encode())
    ]
    return _git_hash("tree", b"".join(lines))


def make_commit(
    files: Mapping[str, File],
    *,
    parent: str | None,
    title: str,
    description: str = "",
    author: str,
    date: str,
) -> Commit:
    """Build a commit and name it by its content, as git does."""
    signature = f"{author} <{author}@users.noreply.invalid> {date}"
    lines = [f"tree {tree_oid(files)}", *([f"parent {parent}"] if parent else [])]
    lines += [f"author {signature}", f"committer {signature}", "", title, "", description]
    return Commit(
        oid=_git_hash("commit", "\n".join(lines).encode()),
        parent=parent,
        title=title,
        description=description,
        author=author,
        date=date,
        files=dict(sorted(files.items())),
    )


def _git_hash(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
