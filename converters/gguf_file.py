"""A GGUF file as named tensors and metadata, read with the `gguf` package.

Source: ggml-org/llama.cpp, docs/gguf.md; the package's GGUFReader maps the file and checks its bounds late,
so the header is walked over first, whatever is raised on a damaged file is caught here, and time and memory
are bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.converters.gguf_bounds import BoundsError, check_bounds
from zoo.converters.tensors import Shape
from zoo.errors import MissingExtraError, RefusedError
from zoo.limits import limited

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 20
MEMORY_BYTES = 512 << 20
_PLAIN = ("F32", "F16", "BF16")


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    """One GGUF file.

    Attributes:
        path: where it is.
    """

    path: Path

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Every tensor's dtype and shape by name, outermost dimension first as in torch."""
        return {
            tensor.name: Shape(
                dtype=tensor.tensor_type.name, shape=tuple(int(size) for size in reversed(tensor.shape))
            )
            for tensor in self._reader.tensors
        }

    def load(self, name: str) -> "Tensor":
        """One tensor, on the CPU.

        Raises:
            RefusedError: ZV016, it is quantised.
        """
        import torch

        found = next(tensor for tensor in self._reader.tensors if tensor.name == name)
        kind, shape = found.tensor_type.name, self.shapes[name].shape
        if kind not in _PLAIN:
            raise _damaged(self.path, f"holds {name[:120]} quantised as {kind}")
        if kind == "BF16":
            return torch.frombuffer(bytearray(found.data.tobytes()), dtype=torch.bfloat16).reshape(shape)
        return torch.from_numpy(found.data.copy()).reshape(shape)

    def value(self, key: str) -> Any:
        """A value of the metadata as plain data; None where there is no such key."""
        field = self._reader.fields.get(key)
        try:
            return None if field is None else field.contents()
        except (ValueError, TypeError, IndexError, UnicodeDecodeError):
            raise _damaged(self.path, f"has an unreadable {key}") from None

    @cached_property
    def _reader(self) -> Any:
        try:
            import gguf
        except ImportError:
            raise MissingExtraError(
                "reading GGUF needs the gguf package", hint="pip install 'alora-zoo[llama]'"
            ) from None
        try:
            check_bounds(self.path)
        except BoundsError as error:
            raise _damaged(self.path, str(error)) from None
        try:
            with limited(f"reading {self.path.name}", seconds=SECONDS, memory=MEMORY_BYTES):
                return gguf.GGUFReader(self.path)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, OSError) as error:
            raise _damaged(self.path, f"is no whole GGUF file ({type(error).__name__})") from None


def _damaged(path: Path, what: str) -> RefusedError:
    return RefusedError(
        f"{path.name} {what}",
        code="ZV016",
        hint="write the adapter again with convert_lora_to_gguf.py --outtype f32",
    )
