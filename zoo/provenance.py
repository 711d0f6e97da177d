"""Digests of a release's files, and the versions that made them."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

# Not part of the payload: the lock names the payload, bill of materials and signature are made from the lock,
# and a card may be edited on the Hub afterwards.
OUTSIDE_PAYLOAD = frozenset(
    {"README.md", "zoo.lock.json", "bom.cdx.json", "provenance.intoto.jsonl", ".gitattributes"}
)
# What git and the Hub client keep inside a folder that they fetched.
BOOKKEEPING = frozenset({".git", ".cache"})


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


def payload_digests(root: Path, *, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """The sha256 of every payload file below a folder, by relative path with `/`, sorted.

    Args:
        root: the folder.
        known: digests that were taken while the files were written.
    """
    taken = known or {}
    return {
        name: taken.get(name) or sha256_file(root / name)
        for name in sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        if name not in OUTSIDE_PAYLOAD and name.partition("/")[0] not in BOOKKEEPING
    }


def folder_digest(digests: Mapping[str, str]) -> str:
    """One sha256 for a set of files: over the lines `sha256  path`, sorted by path."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return sha256_bytes(lines.encode())


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
