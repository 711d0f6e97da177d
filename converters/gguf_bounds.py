"""Whether a GGUF file's header stays within bounds, before the `gguf` package reads it.

The package counts up to whatever the header announces: beyond the end of the file it goes on with nothing,
for as long as it was told. So the announcements are added up here, without making anything of them.
Source: ggml-org/ggml, docs/gguf.md, version 3 (and 2, whose layout is the same).
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MAX_TENSORS = 20_000
MAX_VALUES = 100_000  # metadata of an adapter are a few dozen; a base's vocabulary is in the base
MAX_TEXT = 1_000_000
MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes by type


class BoundsError(ValueError):
    """A header that announces more than there is, or than an adapter has."""


def check_bounds(path: Path) -> None:
    """Walks over a file's header.

    Raises:
        BoundsError: it is out of bounds, or no header.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        _Walk(stream=stream, size_bytes=path.stat().st_size).header()


@dataclass(kw_only=True)
class _Walk:
    stream: BinaryIO
    size_bytes: int
    values: int = 0

    def header(self) -> None:
        magic, version, tensors, keys = struct.unpack("<4sIQQ", self._bytes(24))
        if magic != b"GGUF" or version not in (2, 3):
            raise BoundsError("is no GGUF file of version 2 or 3 in little-endian order")
        if tensors > MAX_TENSORS or keys > MAX_VALUES:
            raise BoundsError(f"announces {tensors:,} tensors and {keys:,} keys")
        for _ in range(keys):
            self._text()
            self._value(self._number("<I"), nested=False)
        for _ in range(tensors):
            self._text()
            dimensions = self._number("<I")
            if dimensions > MAX_DIMENSIONS:
                raise BoundsError(f"announces a tensor of {dimensions:,} dimensions")
            self._bytes(8 * dimensions + 12)  # sizes, type, offset

    def _value(self, kind: int, *, nested: bool) -> None:
        self._count(1)
        if kind == _STRING:
            self._text()
        elif kind == _ARRAY and not nested:
            inner, count = struct.unpack("<IQ", self._bytes(12))
            self._count(count)
            for _ in range(count):
                self._value(inner, nested=True)
        elif kind in _SCALARS:
            self._bytes(_SCALARS[kind])
        else:
            raise BoundsError(f"holds a value of type {kind}, or an array of arrays")

    def _count(self, more: int) -> None:
        self.values += more
        if self.values > MAX_VALUES:
            raise BoundsError(f"announces more than {MAX_VALUES:,} values")

    def _text(self) -> None:
        length = self._number("<Q")
        if length > MAX_TEXT:
            raise BoundsError(f"announces a text of {length:,} bytes")
        self._bytes(length)

    def _number(self, form: str) -> int:
        number: int = struct.unpack(form, self._bytes(struct.calcsize(form)))[0]
        return number

    def _bytes(self, count: int) -> bytes:
        found = self.stream.read(count)
        if len(found) != count:
            raise BoundsError("ends within its header")
        return found
