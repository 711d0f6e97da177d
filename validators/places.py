"""Where in a file a key stands, so that a finding can point at its line."""

import re
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from zoo.adapter import IO_NAME, LOCK_NAME, RELEASE_NAME, WEIGHTS_NAME
from zoo.errors import ZooError
from zoo.layouts import CONFIG_NAME
from zoo.report import Location
from zoo.specs.document import read_bounded
from zoo.specs.yaml_tree import Path, dotted

if TYPE_CHECKING:
    from zoo.specs.io_file import IODocument


def in_config(root: FilePath, key: str = "") -> Location:
    """A key of `adapter_config.json`, or the whole file."""
    return _located(root, CONFIG_NAME, key, rf'"{re.escape(key)}"\s{{0,9}}:')


def in_release(root: FilePath, key: str = "") -> Location:
    """A dotted key of `zoo.yaml`, or the whole file; the line is that of its last part."""
    return _located(root, RELEASE_NAME, key, rf"^[ \t-]*{re.escape(key.rpartition('.')[2])}[ \t]*:")


def in_lock(root: FilePath, key: str = "") -> Location:
    """A dotted key of `zoo.lock.json`, or the whole file; the line is that of its last part."""
    return _located(root, LOCK_NAME, key, rf'"{re.escape(key.rpartition(".")[2])}"\s{{0,9}}:')


def in_io(document: "IODocument", path: Path = ()) -> Location:
    """What stands at a path of `io.yaml`, with its line."""
    return Location(file=IO_NAME, line=document.place(path)[0], pointer=dotted(path))


def in_weights(name: str = "") -> Location:
    """A tensor of `adapter_model.safetensors`, or the whole file."""
    return Location(file=WEIGHTS_NAME, pointer=name[:200])


def _located(root: FilePath, file: str, key: str, pattern: str) -> Location:
    line = _first_line(root / file, pattern) if key else None
    return Location(file=file, line=line, pointer=key)


def _first_line(path: FilePath, pattern: str) -> int | None:
    try:
        text = read_bounded(path).decode("utf-8", errors="replace")
    except (ZooError, OSError):
        return None
    found = re.search(pattern, text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else None
