"""The header of a safetensors file: names, dtypes, shapes and offsets, read within bounds and without torch.

Source of the layout: safetensors 0.8.0, README "Format": 8 bytes little-endian header length, a JSON
object, then the data. The parser of that library lets duplicate keys, zero-sized giants and a million
tensors by; this one does not.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import RefusedError
from zoo.limits import few_values

MAX_HEADER_BYTES = 25_000_000  # the Hub client's own limit
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 8
MAX_VALUES = 1_000_000  # of the JSON; the metadata of some trainers hold a hundred thousand words

_ITEM_BYTES: Mapping[str, float] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4,
    "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor as the header declares it.

    Attributes:
        name: the tensor's key.
        dtype: the format's own spelling: `F32`, `BF16`, …
        shape: dimensions.
        begin: offset of its first byte in the file (not in the data section).
        end: offset one past its last byte in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size_bytes(self) -> int:
        """Bytes it takes in the file."""
        return self.end - self.begin

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A whole header: tensors by name in file order, and the free-form string metadata."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Reads and checks a file's header; the data is not touched.

    Args:
        path: a regular file.

    Raises:
        RefusedError: ZF003, the file is not a well-formed safetensors file or exceeds a bound.
        OSError: the file cannot be read.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise _bad(path, "is too short to be a safetensors file")
        length = int.from_bytes(prefix, "little")
        if length > MAX_HEADER_BYTES or length > size_bytes - 8:
            raise _bad(
                path,
                f"claims a header of {length:,} bytes in a file of {size_bytes:,}: not a safetensors file",
            )
        raw = stream.read(length)
    return parse_header(raw, data_begin=8 + length, size_bytes=size_bytes, path=path)


def parse_header(raw: bytes, *, data_begin: int, size_bytes: int, path: Path) -> Header:
    """Parses header bytes that were already read.

    Args:
        raw: the JSON object's bytes.
        data_begin: offset in the file at which tensor data starts.
        size_bytes: size of the whole file.
        path: named in errors only.

    Raises:
        RefusedError: ZF003, see `read_header`.
    """
    try:
        few_values(raw, MAX_VALUES)
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_pairs)  # of bytes, also UTF-16
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"has an unreadable header ({str(error)[:80]})") from None
    if not isinstance(document, dict):
        raise _bad(path, "has a header that is not an object")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad(path, "has metadata that is not a map of strings")
    if len(document) > MAX_TENSORS:
        raise _bad(path, f"declares {len(document):,} tensors, over the limit of {MAX_TENSORS:,}")
    tensors = {name: _tensor(name, entry, data_begin, path) for name, entry in document.items()}
    _check_layout(tensors, data_begin, size_bytes, path)
    return Header(tensors=tensors, metadata=metadata)


def _tensor(name: str, entry: object, data_begin: int, path: Path) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]} if (
            dtype in _ITEM_BYTES
            and len(shape) <= MAX_DIMENSIONS
            and all(isinstance(d, int) and not isinstance(d, bool) and 0 <= d < 2**31 for d in shape)
            and not isinstance(begin, bool)
            and 0 <= begin <= end
        ):
            if math.prod(shape) * _ITEM_BYTES[dtype] != end - begin:
                raise _bad(path, f"declares {name!r} with a shape that does not fit its bytes")
            return TensorInfo(
                name=name, dtype=dtype, shape=tuple(shape), begin=data_begin + begin, end=data_begin + end
            )
    raise _bad(path, f"declares the tensor {name[:80]!r} in a form the format does not know")


def _check_layout(tensors: Mapping[str, TensorInfo], data_begin: int, size_bytes: int, path: Path) -> None:
    position = data_begin
    for info in sorted(tensors.values(), key=lambda t: (t.begin, t.end)):
        if info.begin != position:
            raise _bad(path, f"has a gap or an overlap before {info.name!r}")
        position = info.end
    if position != size_bytes:
        if size_bytes < position:
            raise _bad(path, f"lacks its last {position - size_bytes:,} bytes: a copy that broke off")
        raise _bad(path, f"has {size_bytes - position:,} bytes that no tensor claims")


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    for key, value in pairs:  # half a surrogate pair is no text; Python's json lets it by
        f"{key}{value if isinstance(value, str) else ''}".encode()
    return result


def _bad(path: Path, what: str) -> RefusedError:
    return RefusedError(
        f"{path.name} {what}",
        code="ZF003",
        hint="save the weights again with safetensors; never rename a pickle",
    )
