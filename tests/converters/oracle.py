"""What PEFT itself says a saved adapter computes: the outside against which conversions are tested."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from zoo.models import BaseModel, load_model

Tensor = torch.Tensor


def deltas(base: BaseModel, folder: Path, *, merged: bool = False, model: Any = None) -> dict[str, Tensor]:
    """PEFT's update of every adapted module, float64 [out, in], from the folder as it lies on disk.

    By its forward on unit vectors, or as it would merge it, which it cannot do for every variant.
    Over the base as it is loaded, or a loaded one that is given.
    """
    loaded = load_model(base) if model is None else model
    model = PeftModel.from_pretrained(loaded, folder).double().eval()
    found = {}
    layers: list[tuple[str, Any]] = [
        (n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)
    ]
    for name, module in layers:
        if isinstance(getattr(module, "dtype", None), torch.dtype):
            module.dtype = torch.float64  # AdaMSS casts everything to what it was built with
        if merged:
            delta = module.get_delta_weight("default")
            delta = delta.T if getattr(module, "fan_in_fan_out", False) else delta
        else:
            unit = torch.eye(module.in_features, dtype=torch.float64)
            with torch.no_grad():
                delta = (module(unit) - module.get_base_layer()(unit)).T
        found[name.removeprefix("base_model.model.")] = delta
    return found


def randomise(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fresh factors: some inits leave one of them zero, which would make every comparison hold."""
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()}


def converted_deltas(folder: Path) -> dict[str, Tensor]:
    """b @ a of a release folder, by hand: normal form means that this is all there is to it."""
    from safetensors.torch import load_file

    weights = load_file(folder / "adapter_model.safetensors")
    paths = [name.removesuffix(".lora_A.weight") for name in weights if name.endswith(".lora_A.weight")]
    return {
        path.removeprefix("base_model.model."): weights[f"{path}.lora_B.weight"].double()
        @ weights[f"{path}.lora_A.weight"].double()
        for path in paths
    }


def worst(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    """The largest relative Frobenius error over modules; the modules must be the same."""
    assert set(found) == set(wanted)
    return max(float((found[path] - wanted[path]).norm() / wanted[path].norm()) for path in wanted)


def edit_config(folder: Path, **changes: Any) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return folder


def gated_copy(source: Path, target: Path, ids: Sequence[int]) -> Path:
    """The source's own weights and scales, with nothing added but PEFT's gate."""
    shutil.copytree(source, target)
    return edit_config(target, alora_invocation_tokens=list(ids))


def logits(base: BaseModel, folder: Path | None, ids: Sequence[int]) -> Tensor:
    """Logits of one row, [tokens, vocabulary]; of the base itself without a folder."""
    model = load_model(base)
    row = torch.tensor([list(ids)])
    with torch.no_grad():
        if folder is None:
            return model(row).logits[0]
        return PeftModel.from_pretrained(model, folder)(row).logits[0]
