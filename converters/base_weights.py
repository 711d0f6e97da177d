"""Weights of a base model, one tensor or a few rows of one at a time: never the whole model.

A local checkpoint is read with plain reads rather than a memory map, whose touched pages count as this
process' memory until it is closed. A model on the Hub is read by range requests, except for shards that the
client's cache already holds; nothing is added to the cache.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from zoo.errors import BaseMissingError, NotFoundError, RefusedError
from zoo.models import BaseModel
from zoo.safetensors_header import MAX_HEADER_BYTES, TensorInfo, parse_header, read_header

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.hub.ranges import RangedFile

SHARDS, CONFIG = "model*.safetensors", "config.json"
MAX_CONFIG = 1 << 20
BLOCK_BYTES = 32 << 20  # of one block of rows in float32, for those who read in blocks
_SCALES = ("_scale", "_scale_inv")  # what multiplies 8-bit weights, as an ending of their name
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
}  # fmt: skip


class Shard(Protocol):
    """A safetensors file of which parts can be read."""

    def header(self) -> Mapping[str, TensorInfo]:
        """Every tensor by name, checked against the file's size."""

    def read(self, begin: int, end: int) -> memoryview:
        """Bytes `begin` to `end`, exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalShard:
    """A safetensors file of this machine."""

    path: Path

    def header(self) -> Mapping[str, TensorInfo]:
        """See `Shard`.

        Raises:
            RefusedError: ZF003, not a well-formed safetensors file.
        """
        return read_header(self.path).tensors

    def read(self, begin: int, end: int) -> memoryview:
        """See `Shard`.

        Raises:
            BaseMissingError: the file ends before `end`.
        """
        import numpy as np

        # not zeroed first, which would take longer than the reading
        content = memoryview(np.empty(end - begin, dtype=np.uint8).data)
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(begin)
            filled = 0
            while filled < len(content):
                count = stream.readinto(content[filled:])
                if not count:
                    raise BaseMissingError(
                        f"{self.path.name} became shorter while it was read",
                        hint="wait for the download to finish",
                    )
                filled += count
        return content


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteShard:
    """A safetensors file on the Hub, read by range requests."""

    file: "RangedFile"

    def header(self) -> Mapping[str, TensorInfo]:
        """See `Shard`.

        Raises:
            RefusedError: ZF003, not a well-formed safetensors file.
            HubError: ZH007 no access, ZH008 no answer.
        """
        size, name = self.file.size_bytes, Path(self.file.path)
        length = int.from_bytes(self.file.read(0, min(8, size)), "little")
        if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
            raise RefusedError(f"{name} on the Hub is not a safetensors file", code="ZF003")
        raw = self.file.read(8, 8 + length)
        return parse_header(raw, data_begin=8 + length, size_bytes=size, path=name).tensors

    def read(self, begin: int, end: int) -> memoryview:
        """See `Shard`.

        Raises:
            HubError: ZH007 no access, ZH008 no answer.
        """
        return memoryview(bytearray(self.file.read(begin, end)))


@dataclass(frozen=True, kw_only=True)
class BaseWeights:
    """The weights of one base model at one exact state, for reading piece by piece.

    Attributes:
        id: Hub id, or the folder's name.
        revision: commit; empty where the weights are a folder's.
        shards: its safetensors files.
        model_type: as its `config.json` says; empty where there is none.
    """

    id: str
    revision: str
    shards: tuple[Shard, ...]
    model_type: str = ""

    @cached_property
    def places(self) -> Mapping[str, tuple[Shard, TensorInfo]]:
        """Every tensor's shard and place in it, by name."""
        return {name: (shard, info) for shard in self.shards for name, info in shard.header().items()}

    def shape(self, name: str) -> tuple[int, ...]:
        """Dimensions of a tensor.

        Raises:
            RefusedError: ZV050, there is no such tensor, or it does not hold plain numbers.
        """
        return self._place(name)[1].shape

    def tensor(self, name: str) -> "Tensor":
        """A whole tensor, on the CPU, in the file's dtype; see `shape` for what it raises."""
        shard, info = self._place(name)
        return as_tensor(shard.read(info.begin, info.end), info, info.shape)

    def rows(self, name: str, *, count: int) -> "Iterator[tuple[int, Tensor]]":
        """A matrix in blocks of whole rows, in order; see `shape` for what it raises.

        Args:
            name: of a tensor with two dimensions.
            count: rows of a block; the last may have fewer.

        Yields:
            The first row's number, and the rows in the file's dtype.
        """
        shard, info = self._place(name)
        height, columns = info.shape
        row = info.size_bytes // max(height, 1)
        for first in range(0, height, count):
            last = min(first + count, height)
            content = shard.read(info.begin + first * row, info.begin + last * row)
            yield first, as_tensor(content, info, (last - first, columns))

    def _place(self, name: str) -> tuple[Shard, TensorInfo]:
        found = self.places.get(name)
        scaled = any(f"{name}{ending}" in self.places for ending in _SCALES)
        if found is None or found[1].dtype not in _DTYPES or scaled:
            how = " with a scale" if scaled else ""
            what = "holds no tensor" if found is None else f"stores as {found[1].dtype}{how} the tensor"
            raise RefusedError(
                f"{self.id} {what} {name[:200]!r}",
                code="ZV050",
                hint="name the full-precision checkpoint of the same architecture",
            )
        return found


@dataclass(frozen=True, kw_only=True)
class StreamedBase(BaseModel):
    """A base model on the Hub whose configuration is here and whose weights are not.

    Attributes:
        weights: read from the Hub where they are asked for.
    """

    weights: BaseWeights

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """Every weight by name, from the headers of its shards on the Hub; see `Shard.header`."""
        return {name: info for name, (_, info) in self.weights.places.items()}


def streamed(base: BaseModel) -> BaseModel:
    """The base with its weights within reach: as it is where they are here, else read from the Hub.

    Args:
        base: from `zoo.models.resolve` with `weights=False`.

    Raises:
        BaseMissingError: there are no safetensors weights on the Hub either.
        HubError: ZH007 no access, ZH008 no answer.
    """
    if not base.revision or any(base.folder.glob(SHARDS)):
        return base
    weights = open_base_weights(base.id, revision=base.revision)
    return StreamedBase(id=base.id, revision=base.revision, folder=base.folder, weights=weights)


def open_base_weights(base: BaseModel | str, *, revision: str = "") -> BaseWeights:
    """Opens a base model's weights for reading piece by piece; nothing is downloaded yet.

    Args:
        base: a resolved base; or a folder, `org/name` or `org/name@revision` on the Hub.
        revision: used when `base` is a name without one.

    Raises:
        NotFoundError: nothing of that name.
        BaseMissingError: it has no safetensors weights.
        HubError: ZH007 no access, ZH008 no answer.
    """
    if isinstance(base, StreamedBase):
        return base.weights
    if isinstance(base, BaseModel):
        return _local(base, base.revision)
    folder = Path(base).expanduser()
    if folder.is_dir():
        opened = BaseModel(id=folder.resolve().name, revision="", folder=folder)  # the weights are enough
        return _local(opened, "")
    if base.count("/") != 1 or base.startswith((".", os.sep, "~")):
        raise NotFoundError(
            f"no base model {base!r}: not a folder, not org/name on the Hub", hint="check the name"
        )
    from zoo.hub.ranges import cached, ranged_files

    name, _, wanted = base.partition("@")
    commit, files = ranged_files(name, wanted or revision, [SHARDS, CONFIG])
    weights = [file for file in files if file.path != CONFIG]
    if not weights:
        raise BaseMissingError(
            f"the base model {name} has no safetensors weights on the Hub", hint="name another one"
        )
    configs = [file for file in files if file.path == CONFIG]
    kinds = [_model_type(file.read(0, min(file.size_bytes, MAX_CONFIG))) for file in configs]
    shards: list[Shard] = []
    for file in weights:
        here = cached(file)
        shards.append(LocalShard(path=Path(here)) if here else RemoteShard(file=file))
    return BaseWeights(id=name, revision=commit, shards=tuple(shards), model_type="".join(kinds))


def _local(base: BaseModel, revision: str) -> BaseWeights:
    shards = tuple(LocalShard(path=path) for path in base.weight_files)
    config = base.folder / CONFIG
    kind = _model_type(config.read_bytes()[:MAX_CONFIG]) if config.is_file() else ""
    return BaseWeights(id=base.id, revision=revision, shards=shards, model_type=kind)


def _model_type(config: bytes) -> str:
    try:
        kind = json.loads(config).get("model_type", "")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return kind if isinstance(kind, str) else ""


def as_tensor(content: memoryview, info: TensorInfo, shape: tuple[int, ...]) -> "Tensor":
    """Bytes of a safetensors file as the tensor that they are, without a copy.

    Args:
        content: the bytes, which the tensor takes over.
        info: of the tensor that they belong to.
        shape: of the result: the tensor's own, or that of some of its rows.
    """
    import torch

    dtype = getattr(torch, _DTYPES[info.dtype])
    if not content:
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(content, dtype=dtype).reshape(shape)
