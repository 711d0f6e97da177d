"""Tensors of an adapter file, read one at a time, within bounds and without running anything in it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import WEIGHTS_NAME
from zoo.errors import NotFoundError, RefusedError
from zoo.safetensors_header import read_header

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_NAME = "adapter_model.bin"
MAX_PICKLE_BYTES = 8_000_000_000
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
        found = read_header(self.path).tensors
        return {name: Shape(dtype=info.dtype, shape=info.shape) for name, info in found.items()}

    def load(self, name: str) -> "Tensor":
        """One tensor, on the CPU, in the file's dtype."""
        tensor: Tensor = self._stream.get_tensor(name)
        return tensor

    @cached_property
    def _stream(self) -> Any:
        """Opened once: opening parses the header anew, and the mapping stays on the file that was checked."""
        from safetensors import safe_open

        return safe_open(self.path, framework="pt")


@dataclass(frozen=True, kw_only=True)
class PickleFile:
    """`adapter_model.bin`, what PEFT wrote before 0.7; read with `weights_only`, or not at all."""

    path: Path

    @cached_property
    def tensors(self) -> Mapping[str, "Tensor"]:
        """Every tensor by name.

        Raises:
            RefusedError: ZV014, it holds anything but tensors, or is too large.
        """
        import pickle
        import warnings

        import torch

        if self.path.stat().st_size > MAX_PICKLE_BYTES:
            raise _unsafe(self.path, f"is larger than {MAX_PICKLE_BYTES:,} bytes")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch remarks on odd pickles before it refuses them
                content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError):
            raise _unsafe(self.path, "holds more than tensors, or is damaged") from None
        if not isinstance(content, dict) or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
        ):
            raise _unsafe(self.path, "is not a map from names to tensors")
        return content

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


TensorFile = SafetensorsFile | PickleFile


def open_tensors(folder: Path) -> TensorFile:
    """The weights of an adapter folder; safetensors where both kinds are there.

    Raises:
        NotFoundError: there are none.
    """
    if (folder / WEIGHTS_NAME).is_file():
        return SafetensorsFile(path=folder / WEIGHTS_NAME)
    if (folder / PICKLE_NAME).is_file():
        return PickleFile(path=folder / PICKLE_NAME)
    raise NotFoundError(
        f"{folder} holds neither {WEIGHTS_NAME} nor {PICKLE_NAME}",
        hint="give the folder that PEFT's save_pretrained wrote",
    )


def _spelling(tensor: "Tensor") -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return _SPELLINGS.get(name, name)


def _unsafe(path: Path, what: str) -> RefusedError:
    return RefusedError(
        f"{path.name} {what}",
        code="ZV014",
        hint="load it where it was made and save it again as safetensors (save_pretrained does)",
    )
