"""Tiny checkpoints of trainers that fuse, chain or nest factors, each with the update of its own forward.

As in `foreign`, the update is written out from the trainer's code, on its own layout, without zoo's readers.
"""

import io
import json
import math
import tarfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.converters.foreign import ALPHA, Drawn, Made, R, Tensor
from zoo.models import BaseModel

HEADS, GROUPS = 4, 2  # of the tiny base
NEMO = {
    "qkv": "self_attention.adapter_layer.lora_kqv_adapter",
    "proj": "self_attention.adapter_layer.lora_dense_attention_adapter",
    "fc1": "mlp.adapter_layer.lora_hto4h_adapter",
    "fc2": "mlp.adapter_layer.lora_4htoh_adapter",
}
BRIDGE = {
    "qkv": "self_attention.linear_qkv.adapter",
    "proj": "self_attention.linear_proj.adapter",
    "fc1": "mlp.linear_fc1.adapter",
    "fc2": "mlp.linear_fc2.adapter",
}


def unit(wide: int) -> Tensor:
    return torch.eye(wide, dtype=torch.float64)


def split_qkv(mixed: Tensor, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Megatron-Core's `get_query_key_value_tensors`: per group its queries, its key, its value."""
    size = mixed.shape[1] // (heads + 2 * groups)
    grouped = mixed.view(mixed.shape[0], groups, (heads // groups + 2) * size)
    query, key, value = grouped.split([heads // groups * size, size, size], dim=2)
    return query.flatten(1), key.flatten(1), value.flatten(1)


def fused(base: BaseModel, names: dict[str, str], start: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors and updates of NeMo's fused LoRA: `linear_out(linear_in(x)) · alpha / dim`."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    for layer in (0, 1):
        path = f"model.layers.{layer}"
        groups = {
            "qkv": [f"{path}.self_attn.{side}_proj" for side in "qkv"],
            "proj": [f"{path}.self_attn.o_proj"],
            "fc1": [f"{path}.mlp.gate_proj", f"{path}.mlp.up_proj"],
            "fc2": [f"{path}.mlp.down_proj"],
        }
        for kind, modules in groups.items():
            wide = base.linears[modules[0]][1]
            down, up = draw(R, wide), draw(sum(base.linears[module][0] for module in modules), R)
            name = f"{start}decoder.layers.{layer}.{names[kind]}"
            tensors[f"{name}.linear_in.weight"], tensors[f"{name}.linear_out.weight"] = down, up
            output = (unit(wide) @ down.double().T) @ up.double().T * (ALPHA / R)
            parts = split_qkv(output, HEADS, GROUPS) if kind == "qkv" else output.chunk(len(modules), dim=1)
            updates |= {module: part.T for module, part in zip(modules, parts, strict=True)}
    return tensors, updates


def megatron(base: BaseModel, folder: Path) -> Made:
    """Megatron-Bridge's names in a flat file."""
    tensors, updates = fused(base, BRIDGE, "")
    folder.mkdir()
    save_file(tensors, folder / "adapters.safetensors")
    return Made(path=folder / "adapters.safetensors", updates=updates)


def canonical(base: BaseModel, folder: Path) -> Made:
    """A pair of factors for each of query, key, value, gate and up: NeMo 1's names, and Megatron-Bridge's."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    names = {
        0: {
            **{f"self_attn.{s}_proj": f"{BRIDGE['qkv']}.adapter_{s}" for s in "qkv"},
            **{f"mlp.{s}_proj": f"{BRIDGE['fc1']}.adapter_{s}" for s in ("gate", "up")},
        },
        1: {
            **{
                f"self_attn.{s}_proj": f"self_attention.adapter_layer.lora_unfused_kqv_adapter.{s}_adapter"
                for s in "qkv"
            },
            **{
                f"mlp.{s}_proj": f"mlp.adapter_layer.lora_unfused_hto4h_adapter.{s}_adapter"
                for s in ("gate", "up")
            },
        },
    }
    for layer, modules in names.items():
        for module, name in modules.items():
            path = f"model.layers.{layer}.{module}"
            out, wide = base.linears[path]
            down, up = draw(R, wide), draw(out, R)
            full = f"module.decoder.layers.{layer}.{name}"
            tensors[f"{full}.linear_in.weight"], tensors[f"{full}.linear_out.weight"] = down, up
            updates[path] = up.double() @ down.double() * (ALPHA / R)
    folder.mkdir()
    save_file(tensors, folder / "it.safetensors")
    return Made(path=folder / "it.safetensors", updates=updates)


def nemo(base: BaseModel, folder: Path, *, parts: int = 1, alpha: str = f"{ALPHA:g}") -> Made:
    """NeMo 1's archive: the settings, and the weights of each parallel part in a folder of its own."""
    tensors, updates = fused(base, NEMO, "model.")
    folder.mkdir()
    tuning = f"peft:\n  lora_tuning:\n    adapter_dim: {R}\n    alpha: {alpha}\n"
    settings = f"tensor_model_parallel_size: {parts}\n{tuning}"
    weights = io.BytesIO()
    torch.save(tensors, weights)
    members = {"model_config.yaml": settings.encode()}
    for part in range(parts):
        place = "" if parts == 1 else f"mp_rank_{part:02d}/"
        members[f"{place}model_weights.ckpt"] = weights.getvalue()
    with tarfile.open(folder / "it.nemo", "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return Made(path=folder / "it.nemo", updates=updates)


def reslora(base: BaseModel, folder: Path, *, before: int = 1, way: int = 2, pickled: bool = False) -> Made:
    """`result += cur_lora.loras[j](x)`, of the module and `pre_num` before it; myloralib/layers.py."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    blocks: dict[tuple[str, int], Tensor] = {}
    for layer in (0, 1):
        for side in ("q_proj", "v_proj"):
            path = f"model.layers.{layer}.self_attn.{side}"
            out, wide = base.linears[path]
            blocks[side, layer] = torch.zeros(out, wide, dtype=torch.float64)
            for number in (0, 1):
                a, b = draw(R, wide), draw(out, R)
                tensors[f"{path}.loras.{number}.lora_A"], tensors[f"{path}.loras.{number}.lora_B"] = a, b
                blocks[side, layer] += b.double() @ a.double() * (ALPHA / R)
    reach = {0: 0, 2: 999 if before == -1 else before}.get(way, 0)
    updates = {
        f"model.layers.{layer}.self_attn.{side}": sum(
            (blocks[side, one] for one in range(max(0, layer - reach), layer + 1)), torch.zeros(())
        )
        for side, layer in blocks
    }
    folder.mkdir()
    if pickled:
        torch.save(tensors, folder / "pytorch_model_lora.bin")
    else:  # saved anew, which spares a process for the pickle
        save_file(tensors, folder / "adapters.safetensors")
    settings = {"rank": R, "lora_alpha": ALPHA, "res_flag": way, "pre_num": before, "lora_num": 2}
    (folder / "reslora_config.json").write_text(json.dumps(settings))
    return Made(path=folder, updates=updates)


def nora(base: BaseModel, folder: Path) -> Made:
    """`B · RA · diag(R) · RB · A · alpha / √rank`; nora/loralib/layers.py, `merge_BA`."""
    draw = Drawn(base)
    tensors: dict[str, Tensor] = {}
    updates: dict[str, Tensor] = {}
    outer, inner = 6, 2
    for layer, name, (out, wide) in draw.modules():
        path = f"model.layers.{layer}.{name}"
        shapes = {
            "A": (outer, wide),
            "RA": (outer, inner),
            "R": (inner,),
            "RB": (inner, outer),
            "B": (out, outer),
        }
        found = {part: draw(*shape) for part, shape in shapes.items()}
        tensors |= {f"{path}.w_lora_{part}": tensor for part, tensor in found.items()}
        a, down, diagonal, up, b = (found[part].double() for part in ("A", "RB", "R", "RA", "B"))
        updates[path] = b @ up @ torch.diag(diagonal) @ down @ a * (ALPHA / math.sqrt(outer))
    folder.mkdir()
    save_file(tensors, folder / "it.safetensors")
    return Made(path=folder / "it.safetensors", updates=updates)
