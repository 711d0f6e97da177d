"""Tensors of an adapter file, read one at a time, within bounds and without running anything in it."""

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from zoo.adapter import WEIGHTS_NAME
from zoo.converters.base_weights import LocalShard, as_tensor
from zoo.errors import NotFoundError, RefusedError
from zoo.safetensors_header import TensorInfo, read_header

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_NAME = "adapter_model.bin"
MAX_PICKLE_BYTES = 8_000_000_000
# adapters.*: MLX; adapter_N.pt: torchtune; *.lora: litgpt; pytorch_lora_weights: Diffusers
FOREIGN_NAMES = (
    "adapters.safetensors", "adapters.npz", "adapter_[0-9]*.pt", "adapter.pt", "adapter_model.pt",
    "lit_model.pth.lora", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "*.gguf",
)  # fmt: skip
FLOATS = frozenset({"F16", "BF16", "F32", "F64"})
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
    """The arrays of NumPy's archive, read without pickles."""
    import zipfile

    import numpy as np
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_PICKLE_BYTES:
                raise _unsafe(path, f"unpacks to more than {MAX_PICKLE_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, TypeError, KeyError):
        raise _unsafe(path, "holds more than arrays of numbers, or is damaged") from None


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
    return UnpackedFile(path=path)


def candidates(folder: Path) -> list[Path]:
    """The files in a folder that may be an adapter's weights under another trainer's name, sorted."""
    return sorted(path for pattern in FOREIGN_NAMES for path in folder.glob(pattern) if path.is_file())


def finite(tensor: "Tensor") -> bool:
    """Whether no value is infinite or not a number; thirty times faster than asking each value."""
    if not tensor.numel():
        return True
    low, high = tensor.aminmax()  # both are NaN where any value is
    return bool(low.isfinite()) and bool(high.isfinite())


def _spelling(tensor: "Tensor") -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return _SPELLINGS.get(name, name)


def _unsafe(path: Path, what: str) -> RefusedError:
    return RefusedError(
        f"{path.name} {what}",
        code="ZV014",
        hint="load it where it was made and save it again as safetensors (save_pretrained does)",
    )
