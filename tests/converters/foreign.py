"""Tiny checkpoints in the layouts of other trainers, each with the update that its own forward computes.

The update is written out here as the trainer's code has it, on its own layout, and never with zoo's readers.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.models import BaseModel, load_model

Tensor = torch.Tensor
R, ALPHA = 3, 7.0
MODULES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A checkpoint and the truth about it: the update of each module, float64 `[out, in]`, by path."""

    path: Path
    updates: dict[str, Tensor]


class Drawn:
    """Random matrices, none of them the same."""

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self.generator = torch.Generator().manual_seed(11)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def modules(self) -> list[tuple[int, str, tuple[int, int]]]:
        """Layer, name in the layer, and `(out, in)`."""
        return [
            (layer, name, self.base.linears[f"model.layers.{layer}.{name}"])
            for layer in (0, 1)
            for name in MODULES
        ]


def mlx(base: BaseModel, folder: Path, *, npz: bool = False, alpha: float | None = None) -> Made:
    """y = Wx + scale · (x a) b, with a `[in, r]` and b `[r, out]`; mlx_lm/tuner/lora.py."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer, name, (out, wide) in draw.modules():
        path = f"model.layers.{layer}.{name}"
        a, b = draw(wide, R), draw(R, out)
        tensors[f"{path}.lora_a"], tensors[f"{path}.lora_b"] = a, b
        scale = 2.5 if alpha is None else 2.5 * (alpha / R)
        unit = torch.eye(wide, dtype=torch.float64)
        updates[path] = (scale * ((unit @ a.double()) @ b.double())).T
    folder.mkdir()
    parameters: dict[str, Any] = {"rank": R, "scale": 2.5, "dropout": 0.1}
    if alpha is not None:
        parameters["alpha"] = alpha
    document = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    if npz:
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        np.savez(folder / "adapters.npz", **arrays)
    else:
        save_file(tensors, folder / "adapters.safetensors")
    return Made(path=folder, updates=updates)


def mlx_dora(base: BaseModel, folder: Path) -> Made:
    """out = m / ‖W + s (a b)ᵀ‖ · (Wx + s (x a) b), norms over each row; mlx_lm/tuner/dora.py."""
    made = mlx(base, folder)
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapters.safetensors")
    draw, model = Drawn(base), load_model(base)
    updates = {}
    for path, update in made.updates.items():
        weight = model.get_submodule(path).get_parameter("weight").detach().double()
        m = weight.norm(dim=1).float() * (1 + 0.2 * draw(weight.shape[0]))
        tensors[f"{path}.m"] = m
        adapted = weight + update
        updates[path] = m.double()[:, None] / adapted.norm(dim=1, keepdim=True) * adapted - weight
    save_file(tensors, folder / "adapters.safetensors")
    document = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**document, "fine_tune_type": "dora"}))
    return Made(path=folder, updates=updates)


_TUNE = {
    "self_attn.q_proj": "attn.q_proj",
    "self_attn.k_proj": "attn.k_proj",
    "self_attn.v_proj": "attn.v_proj",
    "self_attn.o_proj": "attn.output_proj",
    "mlp.down_proj": "mlp.w2",
}


def torchtune(base: BaseModel, folder: Path, *, config: bool = False) -> Made:
    """A native adapter. Row 2i + j of a head in torchtune is row j·d/2 + i in Hugging Face's layout."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    heads = {"q_proj": 4, "k_proj": 2}
    for layer, name, (out, wide) in draw.modules():
        a, b = draw(R, wide), draw(out, R)
        native = f"layers.{layer}.{_TUNE[name]}"
        tensors[f"{native}.lora_a.weight"], tensors[f"{native}.lora_b.weight"] = a, b
        update = b.double() @ a.double() * (ALPHA / R)
        count = heads.get(name.rpartition(".")[2], 0)
        if count:
            half = out // count // 2
            moved = torch.empty_like(update)
            for h in range(count):
                for i in range(half):
                    for j in (0, 1):
                        moved[h * 2 * half + j * half + i] = update[h * 2 * half + 2 * i + j]
            update = moved
        updates[f"model.layers.{layer}.{name}"] = update
    folder.mkdir()
    torch.save(tensors, folder / "adapter_0.pt")
    if config:
        document = {
            "peft_type": "LORA",
            "r": R,
            "lora_alpha": ALPHA,
            "target_modules": ["q_proj", "output_proj"],
        }
        (folder / "adapter_config.json").write_text(json.dumps(document))
    return Made(path=folder, updates=updates)


def kohya(base: BaseModel, folder: Path, *, alpha: bool = True) -> Made:
    """(up · down) · alpha / rank, names with underscores; networks/lora.py."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer, name, (out, wide) in draw.modules():
        path = f"model.layers.{layer}.{name}"
        flat = "lora_te_" + path.replace(".", "_")
        down, up = draw(R, wide), draw(out, R)
        tensors[f"{flat}.lora_down.weight"], tensors[f"{flat}.lora_up.weight"] = down, up
        if alpha:
            tensors[f"{flat}.alpha"] = torch.tensor(ALPHA)
        updates[path] = up.double() @ down.double() * ((ALPHA if alpha else R) / R)
    folder.mkdir()
    save_file(tensors, folder / "it.safetensors")
    return Made(path=folder / "it.safetensors", updates=updates)


def lycoris(base: BaseModel, folder: Path) -> Made:
    """LoHa on the attention, LoKr on the rest; modules/loha.py, lokr.py."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer, name, (out, wide) in draw.modules():
        path = f"model.layers.{layer}.{name}"
        flat = "lycoris_" + path.replace(".", "_")
        if name.startswith("self_attn"):
            w1a, w1b, w2a, w2b = draw(out, R), draw(R, wide), draw(out, R), draw(R, wide)
            tensors |= {f"{flat}.hada_w1_a": w1a, f"{flat}.hada_w1_b": w1b}
            tensors |= {f"{flat}.hada_w2_a": w2a, f"{flat}.hada_w2_b": w2b}
            update = (w1a.double() @ w1b.double()) * (w2a.double() @ w2b.double())
        else:
            w1, w2a, w2b = draw(4, 4), draw(out // 4, R), draw(R, wide // 4)
            tensors |= {f"{flat}.lokr_w1": w1, f"{flat}.lokr_w2_a": w2a, f"{flat}.lokr_w2_b": w2b}
            update = torch.kron(w1.double(), w2a.double() @ w2b.double())
        tensors[f"{flat}.alpha"] = torch.tensor(ALPHA)
        updates[path] = update * (ALPHA / R)
    folder.mkdir()
    save_file(tensors, folder / "it.safetensors")
    return Made(path=folder / "it.safetensors", updates=updates)


def lycoris_dora(base: BaseModel, folder: Path) -> Made:
    """(W + Δ) · dora_scale / ‖W + Δ‖, norms over each input column; modules/locon.py."""
    from safetensors.torch import load_file

    made = kohya(base, folder)
    tensors, draw, model = load_file(made.path), Drawn(base), load_model(base)
    updates = {}
    for path, update in made.updates.items():
        weight = model.get_submodule(path).get_parameter("weight").detach().double()
        scale = weight.norm(dim=0, keepdim=True).float() * (1 + 0.2 * draw(1, weight.shape[1]))
        tensors["lora_te_" + path.replace(".", "_") + ".dora_scale"] = scale
        adapted = weight + update
        updates[path] = adapted * (scale.double() / adapted.norm(dim=0, keepdim=True)) - weight
    save_file(tensors, made.path)
    return Made(path=made.path, updates=updates)


def diffusers(base: BaseModel, folder: Path) -> Made:
    """The names before PEFT: `.lora.down`, `.lora.up`, and no alpha, which means a scale of 1."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer, name, (out, wide) in draw.modules():
        path = f"model.layers.{layer}.{name}"
        down, up = draw(R, wide), draw(out, R)
        tensors[f"text_encoder.{path}.lora.down.weight"] = down
        tensors[f"text_encoder.{path}.lora.up.weight"] = up
        updates[path] = up.double() @ down.double()
    folder.mkdir()
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    return Made(path=folder, updates=updates)


def litgpt(
    base: BaseModel,
    folder: Path,
    *,
    enabled: tuple[bool, bool, bool] = (True, False, True),
    said: bool = True,
) -> Made:
    """Fused attention: group g of A's rows feeds its own rows of B; litgpt/lora.py, `conv1d`."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer in (0, 1):
        sides = [f"model.layers.{layer}.self_attn.{side}_proj" for side in "qkv"]
        chosen = [side for side, on in zip(sides, enabled, strict=True) if on]
        sizes = [base.linears[side][0] for side in chosen]
        wide = base.linears[sides[0]][1]
        a, b = draw(R * len(chosen), wide), draw(sum(sizes), R)
        tensors[f"transformer.h.{layer}.attn.qkv.lora_A"] = a
        tensors[f"transformer.h.{layer}.attn.qkv.lora_B"] = b
        hidden = (torch.eye(wide, dtype=torch.float64) @ a.double().T).split(R, dim=1)
        outputs = [h @ rows.T for h, rows in zip(hidden, b.double().split(sizes), strict=True)]
        for side, output in zip(chosen, outputs, strict=True):
            updates[side] = output.T * (ALPHA / R)
        for name, own in (
            ("attn.proj", "self_attn.o_proj"),
            ("mlp.fc_1", "mlp.gate_proj"),
            ("mlp.proj", "mlp.down_proj"),
        ):
            out, wide = base.linears[f"model.layers.{layer}.{own}"]
            a, b = draw(R, wide), draw(out, R)
            (
                tensors[f"transformer.h.{layer}.{name}.lora_A"],
                tensors[f"transformer.h.{layer}.{name}.lora_B"],
            ) = a, b
            updates[f"model.layers.{layer}.{own}"] = b.double() @ a.double() * (ALPHA / R)
    folder.mkdir()
    torch.save({"model": tensors}, folder / "lit_model.pth.lora")
    if said:
        keys = dict(zip(("query", "key", "value"), enabled, strict=True))
        lines = [f"lora_alpha: {ALPHA:g}", *(f"lora_{key}: {str(on).lower()}" for key, on in keys.items())]
        (folder / "hyperparameters.yaml").write_text("\n".join(lines))
    return Made(path=folder, updates=updates)


def loralib(base: BaseModel, folder: Path) -> Made:
    """Bare parameters on a GPT-2: a projection merged of three, by grouped convolution; loralib/layers.py."""
    generator = torch.Generator().manual_seed(5)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer in (0, 1):
        path = f"transformer.h.{layer}.attn.c_attn"
        out, wide = next(shape for name, shape in base.linears.items() if path.endswith(name))
        a, b = torch.randn(3 * R, wide, generator=generator), torch.randn(out, R, generator=generator)
        tensors[f"{path}.lora_A"], tensors[f"{path}.lora_B"] = a, b
        grown = torch.nn.functional.conv1d(a.double()[None], b.double()[:, :, None], groups=3)
        updates[path] = grown[0] * (ALPHA / R)
    folder.mkdir()
    torch.save(tensors, folder / "checkpoint.pt")
    return Made(path=folder / "checkpoint.pt", updates=updates)


def bare(base: BaseModel, folder: Path) -> Made:
    """PEFT's tensors with no config beside them."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer, name, (out, wide) in draw.modules():
        path = f"model.layers.{layer}.{name}"
        a, b = draw(R, wide), draw(out, R)
        tensors[f"base_model.model.{path}.lora_A.weight"] = a
        tensors[f"base_model.model.{path}.lora_B.weight"] = b
        updates[path] = b.double() @ a.double() * (ALPHA / R)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    return Made(path=folder / "adapter_model.safetensors", updates=updates)
