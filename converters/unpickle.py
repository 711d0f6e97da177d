"""Turns a pickle of tensors into safetensors, in a process of its own with limits on memory and CPU time.

torch's `weights_only` unpickler builds tensors and plain containers and calls nothing else; the process is
for what that does not bound: allocations and loops that a hostile file can ask for.
Run as `python -P -m zoo.converters.unpickle IN OUT`; says what was wrong on stdout and exits with 1.
"""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CPU_SECONDS = 3  # besides what the imports took
BYTES_A_SECOND = 50_000_000  # and the more for a large file
SPARE_BYTES = 256 << 20
COPIES = 4  # of the file's size: as read, as tensors, as copies of them, and as written
MAX_PARTS = 1 << 20  # of an archive
WRAPPERS = ("model", "state_dict", "module")  # litgpt, Lightning and DeepSpeed put the tensors one level down


def unpickle(path: Path) -> "dict[str, Tensor]":
    """Every tensor of a pickle by name.

    Raises:
        ValueError: it holds anything but tensors, or is damaged.
    """
    import torch

    _no_bomb(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on odd pickles before it refuses them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # an opcode out of place raises whatever its step does: IndexError, AttributeError, …
        raise ValueError("holds more than tensors, or is damaged") from None
    if isinstance(content, dict):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ValueError("is not a map from names to tensors")
    # a view can be of any size: one stored number, seen as a matrix of gigabytes
    size_bytes = sum(tensor.numel() * tensor.element_size() for tensor in content.values())
    if size_bytes > COPIES * path.stat().st_size:  # factors that several modules share are seen several times
        raise ValueError("holds tensors larger than itself")
    return {name: tensor.detach().contiguous().clone() for name, tensor in content.items()}


def _no_bomb(path: Path) -> None:
    """What torch saves is stored as it is; a compressed archive can unpack to any size."""
    import zipfile

    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        raise ValueError("is a damaged archive") from None
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("is compressed, which torch's own files are not")
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("unpacks to more than its own size")


def _serve(source: Path, target: Path) -> int:
    from safetensors.torch import save_file

    _limit(source.stat().st_size)
    try:
        save_file(unpickle(source), target)
    except (ValueError, RuntimeError, KeyError, MemoryError, RecursionError) as error:
        sys.stdout.write(str(error)[:200] if type(error) is ValueError else "holds odd tensors")
        return 1
    return 0


def _limit(size_bytes: int) -> None:
    """Bounds what is to come by the file's size; torch is imported, and what it took does not count."""
    if sys.platform == "win32":
        return
    import resource
    import time

    import torch  # noqa: F401

    from zoo.limits import data_bytes

    seconds = int(time.process_time()) + CPU_SECONDS + size_bytes // BYTES_A_SECOND + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if (used := data_bytes()) is not None:
        most = used + SPARE_BYTES + COPIES * size_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    raise SystemExit(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
