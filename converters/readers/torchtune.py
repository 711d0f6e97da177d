"""Reads torchtune's own adapter files, whose query and key rows lie in another order than Hugging Face's.

torchtune turns the rotary halves of q and k into neighbouring pairs when it loads a Llama; its LoRA's B has
its rows in that order. Qwen's are left alone. Alpha is in `adapter_config.json` where there is one.
Source: pytorch/torchtune, models/convert_weights.py, `tune_to_peft_adapter_weights` (00c242b); the exporter
leaves DoRA magnitudes of q and k unpermuted, which is why PEFT files it made of DoRAs are wrong.
"""

from collections.abc import Callable
from functools import partial

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form
from zoo.converters.modules import find_module, once
from zoo.converters.readers.pairs import (
    Factor,
    assemble,
    complete,
    grouped,
    no_others,
    pair,
    renamed,
    scale_of,
    unpaired,
)
from zoo.converters.source import Source
from zoo.converters.torchtune_names import REORDERED, to_transformers
from zoo.errors import RefusedError
from zoo.models import BaseModel

NAME = "torchtune"
_ENDINGS = {".lora_a.weight": "lora_a", ".lora_b.weight": "lora_b", ".magnitude": "magnitude"}


def accepts(source: Source) -> bool:
    """Whether a tensor has torchtune's name for a factor, with a config beside it or without."""
    return not source.document and any(name.endswith(".lora_a.weight") for name in source.file.shapes)


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the file.

    Raises:
        RefusedError: ZV008, a DoRA; ZV015 to ZV017; ZV024, no alpha; ZV025, an architecture whose row order
            is unknown.
    """
    modules, others = grouped(source.file.shapes, _ENDINGS)
    no_others(others)
    permuted = _permutes(base)
    stored = source.config.lora_alpha if "lora_alpha" in source.config.model_fields_set else None
    alpha = stored if options.alpha is None else options.alpha
    loaders: dict[str, Callable[[], Form]] = {}
    shapes, places = {}, {}
    for written, parts in modules.items():
        if "magnitude" in parts:
            raise RefusedError(
                f"{source.folder.name} is a DoRA of torchtune",
                code="ZV008",
                hint="merge it there, and convert the merged model with --extract RANK",
            )
        complete(written, parts, "lora_a", "lora_b")
        path, shape = find_module(to_transformers(written) or written, base)
        heads = _heads(path, base) if permuted else 0
        order = partial(unpaired, heads=heads) if heads else None
        a = Factor(source=source, name=parts["lora_a"])
        b = Factor(source=source, name=parts["lora_b"], order=order)
        loaders[path] = pair(path, shape, a, b, scale_of(alpha, a.shape[0], NAME))
        shapes[path], places[written] = shape, path
    once(places.values())
    notes = ["alpha / rank → folded into lora_B"]
    if permuted:
        notes.append("rows of lora_B of q and k → from rotary pairs to Hugging Face's halves")
    return assemble(source, NAME, loaders, shapes, notes=notes, renames=renamed(places))


READER = Reader(name=NAME, accepts=accepts, read=read)


def _permutes(base: BaseModel) -> bool:
    kind = str(base.config.get("model_type", ""))
    if kind in REORDERED:
        return REORDERED[kind]
    raise RefusedError(
        f"zoo does not know the order of rows in which torchtune keeps a {kind[:40]} model",
        code="ZV025",
        hint="save the adapter with torchtune's save_adapter_weights in PEFT's format, and convert that",
    )


def _heads(path: str, base: BaseModel) -> int:
    """Number of heads of a rotated projection; 0 for the others."""
    heads = base.config.get("num_attention_heads", 0)
    if path.endswith(".q_proj"):
        return int(heads)
    return int(base.config.get("num_key_value_heads") or heads) if path.endswith(".k_proj") else 0
