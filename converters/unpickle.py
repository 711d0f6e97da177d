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

CPU_SECONDS = 600
SPARE_BYTES = 6 << 30  # torch itself maps this much address space
WRAPPERS = ("model", "state_dict", "module")  # litgpt, Lightning and DeepSpeed put the tensors one level down


def unpickle(path: Path) -> "dict[str, Tensor]":
    """Every tensor of a pickle by name.

    Raises:
        ValueError: it holds anything but tensors, or is damaged.
    """
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on odd pickles before it refuses them
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, MemoryError):
        raise ValueError("holds more than tensors, or is damaged") from None
    if isinstance(content, dict):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in content.items()
    ):
        raise ValueError("is not a map from names to tensors")
    return {name: tensor.detach().contiguous().clone() for name, tensor in content.items()}


def _serve(source: Path, target: Path) -> int:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform.startswith("linux"):  # macOS refuses RLIMIT_AS
            limit = SPARE_BYTES + 4 * source.stat().st_size
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    from safetensors.torch import save_file

    try:
        save_file(unpickle(source), target)
    except (ValueError, RuntimeError, KeyError) as error:
        sys.stdout.write(str(error)[:200] if type(error) is ValueError else "holds odd tensors")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
