"""Writes a safetensors file tensor by tensor, and takes its digest on the way.

The same bytes as the library's own writer, which wants every tensor in memory at once.
Source: safetensors 0.8.0, README "Format", and safetensors/src/tensor.rs, `prepare` (order, padding).
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.converters.folded_weights import FoldedWeights

if TYPE_CHECKING:
    from torch import Tensor

_SPELLINGS = {
    "float64": ("F64", 8), "float32": ("F32", 4), "bfloat16": ("BF16", 2), "float16": ("F16", 2),
}  # fmt: skip
_ORDER = ("F64", "F32", "BF16", "F16")  # descending, as the library aligns them


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
    described = _described(weights)
    names = sorted(described, key=lambda name: (_ORDER.index(described[name][0]), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        dtype, shape, size = described[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as stream, ThreadPoolExecutor(max_workers=1) as beside:
        head = len(raw).to_bytes(8, "little") + raw
        digest.update(head)
        stream.write(head)
        for name in names:
            content = _bytes(weights[name])
            hashed = beside.submit(digest.update, content)  # hashing lets other threads run
            stream.write(content)
            hashed.result()
    return digest.hexdigest()


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
