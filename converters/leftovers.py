"""Tensors that belong to no LoRA factor: copies of base weights are dropped, anything else is refused."""

from collections.abc import Iterable

from zoo.converters.base_weights import open_base_weights
from zoo.converters.keys import PREFIX, Part
from zoo.converters.module_weights import stored_name
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel


def dropped_copies(source: Source, base: BaseModel, names: Iterable[str] | None = None) -> list[str]:
    """Names of tensors that repeat a base weight bit for bit, which PEFT saves beside lm_head and new tokens.

    Args:
        source: the opened folder.
        base: the base model.
        names: the tensors in question; those that belong to no LoRA factor when left out.

    Raises:
        RefusedError: ZV015, a tensor that is neither a factor nor such a copy.
    """
    if names is None:
        names = [name for name, key in source.keys.items() if key.part is Part.OTHER]
    found = list(names)
    for name in found:
        if not _is_copy(name, source, base):
            raise RefusedError(
                f"the tensor {name[:200]!r} is no LoRA factor, and not the base model's own weight either",
                code="ZV015",
                hint="an aLoRA cannot carry changed base weights: train again without saving whole modules",
            )
    return found


def _is_copy(name: str, source: Source, base: BaseModel) -> bool:
    import torch

    wanted = stored_name(name.removeprefix(PREFIX).replace(".base_layer.", "."), base)
    info = base.tensors.get(wanted)
    if info is None or info.shape != source.file.shapes[name].shape:
        return False
    original = open_base_weights(base).tensor(wanted)
    copy = source.file.load(name)
    return torch.equal(copy.to(original.dtype), original) or torch.equal(copy, original.to(copy.dtype))
