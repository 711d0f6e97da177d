"""Tensors of an adapter file, read one at a time, within bounds and without running anything in it."""

import math
import subprocess
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, Protocol

from zoo.adapter import WEIGHTS_NAME
from zoo.converters.base_weights import LocalShard, as_tensor
from zoo.errors import NotFoundError, RefusedError
from zoo.safetensors_header import MAX_TENSORS, TensorInfo, read_header

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_NAME = "adapter_model.bin"
MAX_PICKLE_BYTES = 8_000_000_000
COMPRESSION = 20  # times that numbers may be packed; those of an untrained factor are zeros
# adapters.*: MLX; adapter_N.pt: torchtune; *.lora: litgpt; pytorch_lora_weights: Diffusers;
# pytorch_model_lora: ResLoRA; *.nemo and model_weights: NeMo
FOREIGN_NAMES = (
    "adapters.safetensors", "adapters.npz", "adapter_[0-9]*.pt", "adapter.pt", "adapter_model.pt",
    "lit_model.pth.lora", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "*.gguf",
    "pytorch_model_lora.bin", "*.nemo", "model_weights.ckpt",
)  # fmt: skip
FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
_SIGNED = {2: "int16", 4: "int32", 8: "int64"}  # torch's whole numbers by bytes
_SPELLINGS = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is known of a tensor before it is loaded: safetensors' dtype spelling, and dimensions."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a file holds a tensor's bytes, row by row and without gaps.

    Attributes:
        path: the file.
        begin: offset of the first byte.
        end: offset one past the last byte.
    """

    path: Path
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class SafetensorsFile:
    """`adapter_model.safetensors`; its header is read within bounds, its data one tensor at a time."""

    path: Path

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Every tensor's dtype and shape by name.

        Raises:
            RefusedError: ZF003, not a well-formed safetensors file.
        """
        return {name: Shape(dtype=info.dtype, shape=info.shape) for name, info in self._places.items()}

    def load(self, name: str) -> "Tensor":
        """One tensor, on the CPU, in the file's dtype; read rather than mapped, so that it can be let go."""
        info = self._places[name]
        if info.dtype not in FLOATS:
            return self._stream.get_tensor(name)  # type: ignore[no-any-return]
        return as_tensor(LocalShard(path=self.path).read(info.begin, info.end), info, info.shape)

    def place(self, name: str) -> Place:
        """Where a tensor's bytes are."""
        info = self._places[name]
        return Place(path=self.path, begin=info.begin, end=info.end)

    @cached_property
    def _places(self) -> Mapping[str, TensorInfo]:
        return read_header(self.path).tensors

    @cached_property
    def _stream(self) -> Any:
        """Opened once: opening parses the header anew, and the mapping stays on the file that was checked."""
        from safetensors import safe_open

        return safe_open(self.path, framework="pt")


@dataclass(frozen=True, kw_only=True)
class UnpackedFile:
    """A file that has to be unpacked whole: a pickle of tensors, or NumPy's archive of arrays."""

    path: Path

    @cached_property
    def tensors(self) -> "Mapping[str, Tensor]":
        """Every tensor by name.

        Raises:
            RefusedError: ZV014, it holds anything but tensors, or is too large.
        """
        if self.path.stat().st_size > MAX_PICKLE_BYTES:
            raise _unsafe(self.path, f"is larger than {MAX_PICKLE_BYTES:,} bytes")
        return _arrays(self.path) if self.path.suffix == ".npz" else _unpickled(self.path)

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Every tensor's dtype and shape by name; see `tensors`."""
        return {
            name: Shape(dtype=_spelling(tensor), shape=tuple(tensor.shape))
            for name, tensor in self.tensors.items()
        }

    def load(self, name: str) -> "Tensor":
        """One tensor, on the CPU, in the file's dtype."""
        return self.tensors[name]


def _unpickled(path: Path) -> "dict[str, Tensor]":
    """The tensors of a pickle, by way of safetensors that a limited process writes."""
    from safetensors.torch import load

    with TemporaryDirectory(prefix="zoo-tensors-") as folder:
        target = Path(folder) / WEIGHTS_NAME
        command = [sys.executable, "-P", "-m", "zoo.converters.unpickle", str(path.absolute()), str(target)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode == 0 and target.is_file():
            return load(target.read_bytes())
    said = done.stdout.decode(errors="replace") if done.returncode == 1 else ""
    raise _unsafe(path, said or "takes more memory or time to read than a file of tensors does")


def _arrays(path: Path) -> "dict[str, Tensor]":
    """The arrays of NumPy's archive, read without pickles; each is held against its own header first."""
    import zipfile

    import numpy as np
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            most = COMPRESSION * path.stat().st_size
            if len(parts) > MAX_TENSORS or sum(part.file_size for part in parts) > most:
                raise _unsafe(path, "unpacks to far more than its own size")
            for part in parts:
                with archive.open(part) as stream:
                    _announced(stream, part.file_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (
        ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, TypeError, KeyError, MemoryError,
        RecursionError, NotImplementedError, RuntimeError, SyntaxError,
    ):  # fmt: skip
        raise _unsafe(path, "holds more than arrays of numbers, or is damaged") from None


def _announced(stream: IO[bytes], size_bytes: int) -> None:
    """Refuses an array that claims more than its bytes, for which NumPy would make room beforehand.

    Source: NumPy 2, numpy.lib.format.
    """
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize > size_bytes:
        raise ValueError("an array larger than its data")


class TensorFile(Protocol):
    """A file of named tensors."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Every tensor's dtype and shape by name."""

    def load(self, name: str) -> "Tensor":
        """One tensor, on the CPU, in the file's dtype."""


def open_tensors(folder: Path) -> TensorFile:
    """The weights of a PEFT adapter folder; safetensors where both kinds are there.

    Raises:
        NotFoundError: there are none.
    """
    for name in (WEIGHTS_NAME, PICKLE_NAME):
        if (folder / name).is_file():
            return open_file(folder / name)
    found = candidates(folder)
    if len(found) == 1:
        return open_file(found[0])
    raise NotFoundError(
        f"{folder} holds neither {WEIGHTS_NAME} nor {PICKLE_NAME}",
        hint="give the folder that PEFT's save_pretrained wrote, or the file of weights itself",
    )


def open_file(path: Path) -> TensorFile:
    """A file of tensors, by its ending."""
    if path.suffix == ".safetensors":
        return SafetensorsFile(path=path)
    if path.suffix == ".gguf":
        from zoo.converters.gguf_file import GgufFile

        return GgufFile(path=path)
    if path.suffix == ".nemo":
        from zoo.converters.nemo_file import NemoFile

        return NemoFile(path=path)
    return UnpackedFile(path=path)


def place_of(file: TensorFile, name: str) -> Place | None:
    """Where a file's bytes are a tensor as it stands; None for files that have to be unpacked."""
    return (
        file.place(name) if isinstance(file, SafetensorsFile) and file.shapes[name].dtype in FLOATS else None
    )


def candidates(folder: Path) -> list[Path]:
    """The files in a folder that may be an adapter's weights under another trainer's name, sorted."""
    return sorted(path for pattern in FOREIGN_NAMES for path in folder.glob(pattern) if path.is_file())


def finite(tensor: "Tensor") -> bool:
    """Whether no value is infinite or not a number; see `largest`."""
    if tensor.is_floating_point() and tensor.dtype.itemsize in _SIGNED:
        return math.isfinite(largest(tensor))
    return bool(tensor.isfinite().all())


def largest(tensor: "Tensor") -> float:
    """The largest magnitude in a float tensor; infinity or not a number where one value is that; 0 of none.

    Read as whole numbers, floats of one sign are in the order of their magnitudes, and those that are not
    finite come last: as signed numbers where the sign is plus, as unsigned ones where it is minus. Two such
    maxima are faster than any arithmetic on floats, and do not depend on the number of threads.
    """
    import numpy as np
    import torch

    if not tensor.numel():
        return 0.0
    bits = _whole(tensor)
    size = bits.dtype.itemsize
    sign = 1 << (8 * size - 1)
    found = max(int(bits.max()), int(bits.view(np.dtype(f"u{size}")).max()) - sign, 0)
    return float(torch.tensor(found, dtype=getattr(torch, _SIGNED[size])).view(tensor.dtype))


def same_bits(one: "Tensor", other: "Tensor") -> bool:
    """Whether two tensors of one dtype and shape are the same to the bit; faster than comparing floats."""
    import numpy as np

    return one.dtype == other.dtype and np.array_equal(_whole(one), _whole(other))


def _whole(tensor: "Tensor") -> Any:
    """A float tensor's bits as signed whole numbers, in NumPy's array."""
    import torch

    return tensor.detach().cpu().contiguous().view(getattr(torch, _SIGNED[tensor.dtype.itemsize])).numpy()


def _spelling(tensor: "Tensor") -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return _SPELLINGS.get(name, name)


def _unsafe(path: Path, what: str) -> RefusedError:
    return RefusedError(
        f"{path.name} {what}",
        code="ZV014",
        hint="load it where it was made and save it again as safetensors (save_pretrained does)",
    )
