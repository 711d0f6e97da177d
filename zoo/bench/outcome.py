"""What one arm's process hands back: its times, its memory, its losses; its weights lie beside it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS_NAME = "weights.safetensors"
OUTCOME_NAME = "outcome.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One finished arm.

    Attributes:
        seconds: from the base's files to the saved adapter: loading, what is computed beforehand, all steps.
        cpu_seconds: of the process in that time.
        peak_mib: largest resident memory of the process.
        cuda_peak_mib: most that torch held on the GPU; None without one.
        steps: that were done.
        losses: mean loss of each step as the program reports it, nats a token.
        start: sha256 of the initial weights; empty where the program makes its own.
        versions: of the packages that trained.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    cuda_peak_mib: float | None
    steps: int
    losses: Sequence[float]
    start: str
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Writes it into a folder."""
        (folder / OUTCOME_NAME).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads what `write` wrote."""
        return cls(**json.loads((folder / OUTCOME_NAME).read_text(encoding="utf-8")))


def save_weights(weights: "dict[str, Tensor]", folder: Path) -> None:
    """Writes an adapter's weights, by PEFT's keys, in float32."""
    from safetensors.torch import save_file

    found = {name: tensor.detach().float().cpu().contiguous() for name, tensor in weights.items()}
    save_file(found, folder / WEIGHTS_NAME)


def digest(weights: "dict[str, Tensor]") -> str:
    """Sha256 over tensors in the order of their names."""
    import hashlib

    found = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().float().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    return found.hexdigest()


def peak_mib() -> float:
    """Largest resident memory of this process, MiB.

    Linux hands `ru_maxrss` on from the process that started this one; the kernel's own high-water mark begins
    anew with the program.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
