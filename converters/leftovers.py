"""Tensors that belong to no LoRA factor: copies of base weights are dropped, anything else is refused."""

from zoo.converters.keys import PREFIX, Part
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel
from zoo.safetensors_header import read_header


def dropped_copies(source: Source, base: BaseModel) -> list[str]:
    """Names of tensors that repeat a base weight bit for bit, which PEFT saves beside lm_head and new tokens.

    Raises:
        RefusedError: ZV015, a tensor that is neither a factor nor such a copy.
    """
    names = [name for name, key in source.keys.items() if key.part is Part.OTHER]
    for name in names:
        if not _is_copy(name, source, base):
            raise RefusedError(
                f"the tensor {name[:200]!r} is no LoRA factor, and not the base model's own weight either",
                code="ZV015",
                hint="an aLoRA cannot carry changed base weights: train again without saving whole modules",
            )
    return names


def _is_copy(name: str, source: Source, base: BaseModel) -> bool:
    import torch
    from safetensors import safe_open

    wanted = name.removeprefix(PREFIX).replace(".base_layer.", ".")
    if wanted == "lm_head.weight" and wanted not in base.tensors:  # tied: the same weight under another name
        wanted = next((found for found in base.tensors if found.endswith("embed_tokens.weight")), wanted)
    info = base.tensors.get(wanted)
    if info is None or info.shape != source.file.shapes[name].shape:
        return False
    path = next(path for path in base.weight_files if wanted in read_header(path).tensors)
    with safe_open(path, framework="pt") as stream:
        original = stream.get_tensor(wanted)
    copy = source.file.load(name)
    return torch.equal(copy.to(original.dtype), original) or torch.equal(copy, original.to(copy.dtype))
