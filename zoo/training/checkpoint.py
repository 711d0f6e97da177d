"""The state of an unfinished training run: weights, optimiser, step, on disk without pickle.

A checkpoint is a folder that is replaced whole (`zoo.staging`), so a run that is killed at any moment finds
either the last state or the one before.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from zoo.training.optimisers import Steps

FORMAT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a run stood.

    Attributes:
        losses: mean loss of every step so far, nats a token; as many as there were steps.
        looks: every look at the validation data: the step, and what was seen.
        rank: the score of the best weights so far, compared from the first number on.
        best_step: the step they are from.
        settings: what the run was started with; a resumed run must have the same.
    """

    losses: Sequence[float]
    looks: Sequence[tuple[int, Mapping[str, float]]]
    rank: tuple[float, ...]
    best_step: int
    settings: Mapping[str, Any]


def write(
    folder: Path,
    checkpoint: Checkpoint,
    *,
    parameters: Mapping[str, "Parameter"],
    best: Mapping[str, "Tensor"],
    optimizer: "Steps",
) -> None:
    """Writes a checkpoint into a folder, which is to take the place of the last one whole.

    Raises:
        OSError: the disk is full or not writable.
    """
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    for name, parameter in parameters.items():
        tensors[f"weight/{name}"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value).cpu().contiguous()
    for name, tensor in best.items():
        tensors[f"best/{name}"] = tensor.cpu().contiguous()
    document = {
        "format": FORMAT,
        "step": len(checkpoint.losses),
        "losses": list(checkpoint.losses),
        "looks": [[step, dict(values)] for step, values in checkpoint.looks],
        "rank": list(checkpoint.rank),
        "best_step": checkpoint.best_step,
        "settings": dict(checkpoint.settings),
        "threads": torch.get_num_threads(),
    }
    save_file(tensors, folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps(document), encoding="utf-8")


def restore_threads(folder: Path) -> None:
    """Sets torch's thread count to that of the unfinished run in `folder`, if there is one.

    Sums are rounded in the order in which threads take them: with another count the losses would differ in
    their last digits. To be called before anything is computed.
    """
    import torch

    path = folder / "state.json"
    if path.is_file():
        torch.set_num_threads(json.loads(path.read_text(encoding="utf-8"))["threads"])


def load(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    parameters: Mapping[str, "Parameter"],
    optimizer: "Steps",
) -> tuple[Checkpoint, dict[str, "Tensor"]] | None:
    """Restores weights, optimiser and random state from a checkpoint, if there is one.

    Args:
        folder: where `write` wrote.
        settings: of the run that resumes.
        parameters: filled in place.
        optimizer: over these parameters; its state is filled.

    Returns:
        The checkpoint and the best weights, or None when there is none.

    Raises:
        UsageError: ZD004, the unfinished run was started with other settings or data.
    """
    import torch
    from safetensors.torch import load_file

    path = folder / "state.json"
    if not path.is_file():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(
        key
        for key in {*settings, *document["settings"]}
        if settings.get(key) != document["settings"].get(key)
    )
    if changed or document["format"] != FORMAT:
        raise UsageError(
            f"{folder} holds an unfinished run with another {', '.join(changed) or 'format'}",
            hint=f"run it with the same options to resume, or remove {folder} to begin anew",
            code="ZD004",
        )
    tensors = load_file(folder / "state.safetensors")
    torch.set_rng_state(tensors.pop("rng"))
    best: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        if kind == "best":
            best[name] = tensor
        elif kind == "weight":
            parameters[name].data.copy_(tensor)
        else:
            field, _, name = name.partition("/")
            # the step count is kept on the host, moments beside the weights
            device = "cpu" if field == "step" else parameters[name].device
            optimizer.state[parameters[name]][field] = tensor.to(device)
    found = Checkpoint(
        losses=document["losses"],
        looks=[(step, values) for step, values in document["looks"]],
        rank=tuple(document["rank"]),
        best_step=document["best_step"],
        settings=document["settings"],
    )
    return found, best
