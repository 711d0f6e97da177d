"""Digests of a release's files, and the versions that made them."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from zoo.errors import RefusedError

# Not part of the payload: the lock names the payload, bill of materials and signature are made from the lock,
# and a card may be edited on the Hub afterwards.
OUTSIDE_PAYLOAD = frozenset(
    {
        "README.md", "zoo.lock.json", "bom.cdx.json", "provenance.intoto.jsonl", "provenance.sigstore.json",
        ".gitattributes",
    }
)  # fmt: skip
# What git and the Hub client keep inside a folder that they fetched.
BOOKKEEPING = frozenset({".git", ".cache"})
MAX_ENTRIES = 1000
MAX_DEPTH = 16
MAX_FILE_BYTES = 4 << 30
MAX_TOTAL_BYTES = 6 << 30
_HOLLOW_BYTES = 16 << 20  # smaller files are not worth the question


def sha256_bytes(content: bytes) -> str:
    """The sha256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file, in hex, read in pieces.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk(root: Path) -> Iterator[Path]:
    """Everything below a folder that is no folder, without following links; git's and the client's left out.

    Raises:
        RefusedError: ZF004, more than 1,000 entries, or folders in folders beyond any release.
        OSError: a folder cannot be read.
    """
    pending, seen = [(root, 0)], 0
    while pending:
        folder, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise _unbounded(root, f"has folders in folders, more than {MAX_DEPTH} deep")
        with os.scandir(folder) as children:
            for child in children:
                if folder == root and child.name in BOOKKEEPING:
                    continue
                seen += 1
                if seen > MAX_ENTRIES:
                    raise _unbounded(root, f"holds more than {MAX_ENTRIES:,} files")
                if child.is_dir(follow_symlinks=False):
                    pending.append((Path(child.path), depth + 1))
                else:
                    yield Path(child.path)


def is_hollow(status: os.stat_result) -> bool:
    """Whether a file is a hole for the most part: it claims gigabytes and takes none of the disk.

    File systems that do not count blocks, or have not yet, report none or one.
    """
    blocks = getattr(status, "st_blocks", 0)
    return status.st_size > _HOLLOW_BYTES and blocks > 1 and blocks * 512 * 8 < status.st_size


def payload_digests(root: Path, *, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The sha256 of every payload file below a folder, by relative path with `/`, sorted.

    Args:
        root: the folder.
        known: digests that were taken while the files were written.

    Raises:
        RefusedError: ZF004, there is more to read than any release has.
        OSError: a file cannot be read.
    """
    taken, total, paths = known or {}, 0, {}
    for path in walk(root):
        name = path.relative_to(root).as_posix()
        if name not in OUTSIDE_PAYLOAD and path.is_file():
            status = path.stat()
            total += status.st_size
            if status.st_size > MAX_FILE_BYTES or total > MAX_TOTAL_BYTES or is_hollow(status):
                raise _unbounded(root, f"holds {name[:200]} of {status.st_size:,} bytes")
            paths[name] = path
    return {name: taken.get(name) or sha256_file(path) for name, path in sorted(paths.items())}


def _unbounded(root: Path, what: str) -> RefusedError:
    return RefusedError(f"{root.name} {what}", code="ZF004", hint="release the adapter's files only")


def file_problems(recorded: Mapping[str, str], present: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The files that are not as they were recorded, sorted, each with what is wrong in words."""
    for name in sorted(recorded.keys() | present.keys()):
        if name not in present:
            yield name, "is recorded, and is not there"
        elif name not in recorded:
            yield name, "is there, and is not recorded"
        elif recorded[name] != present[name]:
            digests = f"sha256 {present[name][:12]}…, not {recorded[name][:12]}…"
            yield name, f"has changed since it was recorded ({digests})"


def folder_digest(digests: Mapping[str, str]) -> str:
    """One sha256 for a set of files: over the lines `sha256  path`, sorted by path."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return sha256_bytes(lines.encode("utf-8", "surrogateescape"))  # the bytes of a name that is no text


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions of packages by name; one that is missing is left out."""
    from importlib.metadata import PackageNotFoundError, distribution

    found = {}
    for name in names:
        try:
            installed = distribution(name)
        except PackageNotFoundError:
            continue
        # the version's line alone: parsing all of a long description as an e-mail costs more than the rest
        lines = (installed.read_text("METADATA") or "").splitlines()
        stated = next((line for line in lines if line.startswith("Version: ")), "")
        found[name] = stated.removeprefix("Version: ") or installed.version
    return found
