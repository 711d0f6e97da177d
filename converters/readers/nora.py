"""Reads NoRA: a small LoRA with a diagonal between the two frozen factors of a larger one.

Source: lliai/LoRA-Zoo@52dcec3, nora/loralib/layers.py, `LoRALayer.merge_BA`; arXiv 2408.10280.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form, Latent
from zoo.converters.modules import broken, find_module, once
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
from zoo.models import BaseModel

NAME = "nora"
_PARTS = ("A", "RA", "R", "RB", "B")
_ENDINGS = {f".w_lora_{part}": part for part in _PARTS}


def accepts(source: Source) -> bool:
    """Whether there is no config, and a tensor with NoRA's name for an inner factor."""
    return not source.config.peft_type and any(
        name.endswith((".w_lora_RA", ".w_lora_RB")) for name in source.file.shapes
    )


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the file.

    Raises:
        RefusedError: ZV015 to ZV017; ZV024, no alpha.
    """
    modules, others = grouped(source.file.shapes, _ENDINGS)
    no_others(others)
    loaders: dict[str, Callable[[], Form]] = {}
    shapes: dict[str, tuple[int, int]] = {}
    places: dict[str, str] = {}
    for written, parts in modules.items():
        complete(written, parts, *_PARTS)
        path, shape = find_module(written, base)
        loaders[path] = partial(_form, source, path, shape, parts, options.alpha)
        _check(source, path, shape, parts, options.alpha)
        shapes[path], places[written] = shape, path
    once(places.values())
    notes = ["NoRA → the inner factors multiplied into lora_B; alpha / sqrt(rank), exact"]
    return assemble(source, NAME, loaders, shapes, notes=notes, renames=renamed(places))


READER = Reader(name=NAME, accepts=accepts, read=read)


def _check(
    source: Source, path: str, shape: tuple[int, int], parts: Mapping[str, str], alpha: float | None
) -> int:
    """The outer rank; by shapes alone."""
    first, second = (Factor(source=source, name=parts[part]) for part in ("A", "B"))
    pair(path, shape, first, second, scale_of(alpha, first.shape[0], "NoRA"))
    rank = first.shape[0]
    inner = source.file.shapes[parts["R"]].shape
    sides = Factor(source=source, name=parts["RA"]).shape, Factor(source=source, name=parts["RB"]).shape
    if len(inner) != 1 or sides != ((rank, inner[0]), (inner[0], rank)):
        raise broken(f"{path}: inner factors {sides} and a diagonal of {inner} do not fit rank {rank}")
    return rank


def _form(
    source: Source, path: str, shape: tuple[int, int], parts: Mapping[str, str], alpha: float | None
) -> Form:
    rank = _check(source, path, shape, parts, alpha)
    a, b, down, up = (Factor(source=source, name=parts[part]) for part in ("A", "B", "RB", "RA"))
    scale = scale_of(alpha, rank, "NoRA") * rank / math.sqrt(rank)
    diagonal = source.file.load(parts["R"])
    if not diagonal.is_floating_point() or not diagonal.isfinite().all():
        raise broken(f"{parts['R'][:200]} holds values that are not finite numbers")
    mapping = up.load().double() @ (diagonal.double()[:, None] * down.load().double())
    return Latent(plain=pair(path, shape, a, b, scale)(), mapping=mapping)
