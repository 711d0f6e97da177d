"""Reads LoRAs of NVIDIA's NeMo and of Megatron-Bridge, over the Hugging Face model that they were made from.

Query, key and value may be one pair of factors, whose rows lie by query group: the group's queries, its key,
its value. Gate and up projection may be one pair as well, gate first. What is read: NeMo 1's `.nemo` of one
part, and a flat file of tensors with the names of either. A distributed checkpoint is not.
Source: NVIDIA/NeMo v2.0, nlp_language_modeling/merge_lora_weights/merge.py (names, and that the factors add
to `linear_qkv`), collections/nlp/modules/common/megatron/adapters/parallel_adapters.py (`alpha / dim`);
NVIDIA-NeMo/Megatron-Bridge 0.6, models/conversion/peft_bridge.py and param_mapping.py, `split_qkv_weights`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form
from zoo.converters.modules import broken, find_module, once
from zoo.converters.nemo_file import SETTINGS, NemoFile, parse_settings
from zoo.converters.readers.pairs import (
    Factor,
    assemble,
    complete,
    grouped,
    no_others,
    pair,
    renamed,
    scale_of,
)
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel

NAME = "megatron"
_ENDINGS = {".linear_in.weight": "in", ".linear_out.weight": "out"}
_LAYER = re.compile(r"(?:model\.|module\.)*decoder\.layers\.(\d+)\.(.+)")
_OLD = "language_model.encoder.layers."
_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_FC1 = ("mlp.gate_proj", "mlp.up_proj")
_MODULES: Mapping[str, tuple[str, ...]] = {
    "self_attention.adapter_layer.lora_kqv_adapter": _QKV,
    "self_attention.linear_qkv.adapter": _QKV,
    "self_attention.adapter_layer.lora_dense_attention_adapter": ("self_attn.o_proj",),
    "self_attention.linear_proj.adapter": ("self_attn.o_proj",),
    "mlp.adapter_layer.lora_hto4h_adapter": _FC1,
    "mlp.linear_fc1.adapter": _FC1,
    "mlp.adapter_layer.lora_4htoh_adapter": ("mlp.down_proj",),
    "mlp.linear_fc2.adapter": ("mlp.down_proj",),
    **{
        name: (module,)
        for side, module in zip("qkv", _QKV, strict=True)
        for name in (
            f"self_attention.adapter_layer.lora_unfused_kqv_adapter.{side}_adapter",
            f"self_attention.linear_qkv.adapter.adapter_{side}",
        )
    },
    **{
        name: (module,)
        for side, module in zip(("gate", "up"), _FC1, strict=True)
        for name in (
            f"mlp.adapter_layer.lora_unfused_hto4h_adapter.{side}_adapter",
            f"mlp.linear_fc1.adapter.adapter_{side}",
        )
    },
}


def accepts(source: Source) -> bool:
    """Whether there is no config, and a tensor with Megatron's name for a factor."""
    ends = tuple(_ENDINGS)
    return not source.config.peft_type and any(name.endswith(ends) for name in source.file.shapes)


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the file.

    Raises:
        RefusedError: ZV008, a DoRA; ZV010, experts; ZV015 to ZV017; ZV024, no alpha; ZV026, names from before
            Megatron-Core, whose row order differs between releases, or layers stacked in one tensor.
    """
    modules, others = grouped(source.file.shapes, _ENDINGS)
    _known(others)
    alpha, ranked = _alpha(source, options)
    loaders: dict[str, Callable[[], Form]] = {}
    shapes: dict[str, tuple[int, int]] = {}
    places: dict[str, str] = {}
    for written, parts in modules.items():
        complete(written, parts, "in", "out")
        down, up = Factor(source=source, name=parts["in"]), Factor(source=source, name=parts["out"])
        found = {name: find_module(name, base) for name in _names(written)}
        rows = _rows([shape[0] for _, shape in found.values()], up.shape[0], written, base)
        for (path, shape), part in zip(found.values(), rows, strict=True):
            once([*loaders, path])
            rank = down.shape[0]
            scale = 1.0 if ranked else scale_of(alpha, rank, "NeMo")
            mine = Factor(source=source, name=parts["out"], rows=part)
            loaders[path] = pair(path, shape, down, mine, scale)
            shapes[path], places[written] = shape, path
    said = "no alpha: the rank, a scale of 1" if ranked else f"alpha {alpha:g} / rank → folded into lora_B"
    notes = [said, "rows of fused query, key and value, by query group → one pair of factors each"]
    return assemble(source, NAME, loaders, shapes, notes=notes, renames=renamed(places))


READER = Reader(name=NAME, accepts=accepts, read=read)


def _names(written: str) -> tuple[str, ...]:
    """The modules of a Hugging Face Llama that a pair of factors is for."""
    if _OLD in written:
        raise _unread(f"{written[:120]} is of a model from before Megatron-Core")
    if ".experts." in written:
        raise RefusedError(
            f"{written[:200]} belongs to the experts of a mixture",
            code="ZV010",
            hint="train again with dense layers only",
        )
    match = _LAYER.fullmatch(written)
    modules = _MODULES.get(match[2]) if match else None
    if match is None or modules is None:
        stacked = re.fullmatch(r"(?:model\.|module\.)*decoder\.layers\.[a-z].*", written)
        why = "has all layers in one tensor" if stacked else "is no module that zoo knows of NeMo's"
        raise _unread(f"{written[:120]} {why}")
    return tuple(f"model.layers.{match[1]}.{module}" for module in modules)


def _rows(sizes: list[int], total: int, written: str, base: BaseModel) -> list[tuple[slice, ...]]:
    """The rows of lora_B that are each module's; none stands for all of them."""
    if sum(sizes) != total:
        raise RefusedError(
            f"{written[:200]} has {total} outputs, the base's modules have {sum(sizes)}",
            code="ZV017",
            hint="name the base model that the adapter was trained on with --base",
        )
    if len(sizes) == 1:
        return [()]
    if len(sizes) == 2:
        return [(slice(0, sizes[0]),), (slice(sizes[0], total),)]
    heads = base.config.get("num_attention_heads")
    groups = base.config.get("num_key_value_heads") or heads
    if not isinstance(heads, int) or not isinstance(groups, int) or groups < 1 or heads % groups:
        raise broken(f"the base model says {heads} heads in {groups} groups")
    size, each = sizes[0] // heads, heads // groups
    if [size * heads, size * groups, size * groups] != sizes:
        raise broken(f"{heads} heads in {groups} groups do not make up {sizes} rows")
    starts = [group * (each + 2) * size for group in range(groups)]
    return [
        tuple(slice(start, start + each * size) for start in starts),
        tuple(slice(start + each * size, start + (each + 1) * size) for start in starts),
        tuple(slice(start + (each + 1) * size, start + (each + 2) * size) for start in starts),
    ]


def _alpha(source: Source, options: ReadOptions) -> tuple[float | None, bool]:
    """Alpha, and whether the settings leave it out, which means the rank."""
    if options.alpha is not None:
        return options.alpha, False
    settings: Any = source.file.settings if isinstance(source.file, NemoFile) else None
    beside = source.folder / SETTINGS
    if settings is None and beside in source.inputs:
        settings = parse_settings(beside.read_bytes())
    for key in ("peft", "lora_tuning"):
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    if not isinstance(settings, Mapping):
        return None, False
    alpha = settings.get("alpha")
    if alpha is None:
        return None, True
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not abs(alpha) < 1e6:
        raise broken(f"alpha in {SETTINGS} is {str(alpha)[:40]!r}")
    return float(alpha), False


def _known(others: list[str]) -> None:
    magnitudes = [name for name in others if "magnitude" in name]
    if magnitudes:
        raise RefusedError(
            f"{magnitudes[0][:200]}: it is a DoRA of NeMo",
            code="ZV008",
            hint="merge it there, and convert the merged model with --extract RANK",
        )
    no_others(others)


def _unread(what: str) -> RefusedError:
    return RefusedError(
        what,
        code="ZV026",
        hint="export it to PEFT's format with NeMo or with Megatron-Bridge (AutoBridge.export_adapter_ckpt)",
    )
