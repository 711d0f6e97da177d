"""Writes a safetensors file tensor by tensor, and takes its digest on the way.

The same bytes as the library's own writer, which wants every tensor in memory at once. What a source's file
holds as it has to come out is copied; a file that comes out whole is copied by the kernel.
Source: safetensors 0.8.0, README "Format", and safetensors/src/tensor.rs, `prepare` (order, padding).
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.converters.base_weights import LocalShard
from zoo.converters.canonical import one_thread
from zoo.converters.digests import Digests
from zoo.converters.file_copy import PIECE_BYTES, begin_writing, copy_file
from zoo.converters.folded_weights import FoldedWeights
from zoo.provenance import sha256_file

if TYPE_CHECKING:
    from torch import Tensor

_SPELLINGS = {
    "float64": ("F64", 8), "float32": ("F32", 4), "bfloat16": ("BF16", 2), "float16": ("F16", 2),
}  # fmt: skip
_ORDER = ("F64", "F32", "BF16", "F16")  # descending, as the library aligns them
_AHEAD = 4  # tensors that wait for their digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """A file as it will be.

    Attributes:
        head: everything before the data.
        begins: offset of each tensor's first byte in the file, by name in the order of the file.
        size: of the file.
    """

    head: bytes
    begins: Mapping[str, int]
    size: int


def write_weights(path: Path, weights: "Mapping[str, Tensor]") -> str:
    """Writes floating-point tensors.

    Args:
        path: the file to write.
        weights: by name; made one at a time where they are lazy.

    Returns:
        The file's sha256, in hex.

    Raises:
        OSError: the file cannot be written.
    """
    layout = _layout(weights)
    source = _whole(layout, weights)
    digest = _copied(source, path, weights) if source else _made(path, layout, weights)
    if isinstance(weights, FoldedWeights) and isinstance(weights.digests, Digests):
        weights.digests.check()
    return digest


def _copied(source: Path, path: Path, weights: "Mapping[str, Tensor]") -> str:
    """Copies the source's whole file, whose digest is known or under way."""
    copy_file(source, path)
    known = weights.digests if isinstance(weights, FoldedWeights) else {}
    return known.get(source.name) or sha256_file(path)


def _made(path: Path, layout: _Layout, weights: "Mapping[str, Tensor]") -> str:
    """Writes a file tensor by tensor."""
    digest = hashlib.sha256()
    waiting: deque[Future[None]] = deque()
    begun = 0
    with path.open("wb") as stream, ThreadPoolExecutor(max_workers=1) as beside, one_thread():
        for content in _contents(layout, weights):
            waiting.append(beside.submit(digest.update, content))  # hashing lets other threads run
            stream.write(content)
            if stream.tell() - begun >= PIECE_BYTES:
                begun = begin_writing(stream, begun)
            while len(waiting) > _AHEAD:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
    return digest.hexdigest()


def _contents(layout: _Layout, weights: "Mapping[str, Tensor]") -> "Iterator[bytes | bytearray | memoryview]":
    import torch

    yield layout.head
    for name in layout.begins:
        if not isinstance(weights, FoldedWeights) or name not in weights.stored:
            yield _bytes(weights[name])
            continue
        place, scale = weights.stored[name].place, weights.stored[name].scale
        content = LocalShard(path=place.path).read(place.begin, place.end)
        if scale != 1.0 and content:
            torch.frombuffer(content, dtype=getattr(torch, weights.dtype)).mul_(scale)
        yield content


def _layout(weights: "Mapping[str, Tensor]") -> _Layout:
    described = _described(weights)
    names = sorted(described, key=lambda name: (_ORDER.index(described[name][0]), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offsets, end = {}, 0
    for name in names:
        dtype, shape, size = described[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        offsets[name] = end
        end += size
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    head = len(raw).to_bytes(8, "little") + raw
    begins = {name: len(head) + offset for name, offset in offsets.items()}
    return _Layout(head=head, begins=begins, size=len(head) + end)


def _whole(layout: _Layout, weights: "Mapping[str, Tensor]") -> Path | None:
    """The file that is what is to be written, from its first byte to its last."""
    stored = weights.stored if isinstance(weights, FoldedWeights) else {}
    found = [stored.get(name) for name in layout.begins]
    if not found or found[0] is None or found[0].place.path.stat().st_size != layout.size:
        return None
    path = found[0].place.path
    for one, begin in zip(found, layout.begins.values(), strict=True):
        if one is None or one.scale != 1.0 or (one.place.path, one.place.begin) != (path, begin):
            return None
    with path.open("rb") as stream:
        return path if stream.read(len(layout.head)) == layout.head else None


def _described(weights: "Mapping[str, Tensor]") -> dict[str, tuple[str, tuple[int, ...], int]]:
    found = {}
    for name in weights:
        if isinstance(weights, FoldedWeights):
            shape: tuple[int, ...] = weights.shape(name)
            spelt, width = _SPELLINGS[weights.dtype]
            count = shape[0] * shape[1]
        else:
            shape, count = tuple(weights[name].shape), weights[name].numel()
            spelt, width = _SPELLINGS[str(weights[name].dtype).removeprefix("torch.")]
        found[name] = (spelt, shape, count * width)
    return found


def _bytes(tensor: "Tensor") -> memoryview:
    import torch

    flat: torch.Tensor = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8)
    return memoryview(flat.numpy())  # type: ignore[arg-type]
