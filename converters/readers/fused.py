"""Reads loralib's and litgpt's files: bare parameters, with query, key and value in one pair of factors.

`lora_A` is `[r·n, in]` and `lora_B` `[Σ out, r]` for the n enabled of the three: each has its own rows of A
and its own rows of B. The base may keep them in one module (GPT-2's c_attn) or in three (a Llama's q, k, v).
Source: microsoft/LoRA, loralib/layers.py, `MergedLinear` (0771c1e); Lightning-AI/litgpt, lora.py,
`LoRAQKVLinear.conv1d` (01e39f5).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form, LowRank
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
from zoo.errors import RefusedError
from zoo.models import BaseModel

NAME, LITGPT = "loralib", "litgpt"
_ENDINGS = {".lora_A.weight": "A", ".lora_B.weight": "B", ".lora_A": "A", ".lora_B": "B"}
_LITGPT = {
    "attn.proj": "self_attn.o_proj",
    "mlp.fc_1": "mlp.gate_proj",
    "mlp.fc_2": "mlp.up_proj",
    "mlp.proj": "mlp.down_proj",
}
_FUSED = ("attn.attn", "attn.qkv")  # litgpt's names, before and since 2024
_SIDES = ("q_proj", "k_proj", "v_proj")
_MAX_YAML = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """What `hyperparameters.yaml` of litgpt says.

    Attributes:
        alpha: None when it is not there.
        enabled: which of query, key and value were trained; None when it is not there.
    """

    alpha: float | None = None
    enabled: tuple[bool, bool, bool] | None = None


def accepts(source: Source) -> bool:
    """Whether there is no config, and a tensor with LoRA's own name for a factor."""
    ends = tuple(_ENDINGS)
    return not source.config.peft_type and any(name.endswith(ends) for name in source.file.shapes)


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the file.

    Raises:
        RefusedError: ZV015 to ZV017; ZV024, no alpha; ZV025, unknown which of query, key and value they are.
    """
    modules, others = grouped(source.file.shapes, _ENDINGS)
    no_others(others)
    said = _hyperparameters(source.folder)
    alpha = said.alpha if options.alpha is None else options.alpha
    litgpt = any(written.startswith("transformer.h.") for written in modules) and any(
        path.endswith("self_attn.q_proj") for path in base.linears
    )
    loaders: dict[str, Callable[[], Form]] = {}
    shapes: dict[str, tuple[int, int]] = {}
    places: dict[str, str] = {}
    for written, parts in modules.items():
        complete(written, parts, "A", "B")
        a, b = Factor(source=source, name=parts["A"]), Factor(source=source, name=parts["B"])
        scale = scale_of(alpha, b.shape[1], LITGPT if litgpt else NAME)
        found = _split(written, a, b, base, said) if litgpt else _whole(written, a, b, base)
        once([*found, *(path for path in found if path in shapes)])
        for path, (shape, down, up) in found.items():
            loaders[path] = _joined(path, shape, list(zip(down, up, strict=True)), scale)
            shapes[path], places[written] = shape, path
    return assemble(
        source,
        LITGPT if litgpt else NAME,
        loaders,
        shapes,
        notes=[f"alpha {alpha:g} / rank → folded into lora_B; fused factors → one pair each"],
        renames=renamed(places),
    )


READER = Reader(name=NAME, accepts=accepts, read=read)
_Found = dict[str, tuple[tuple[int, int], list[Factor], list[Factor]]]


def _split(written: str, a: Factor, b: Factor, base: BaseModel, said: Hyperparameters) -> _Found:
    """A litgpt file over a Hugging Face Llama: fused query, key and value become three modules."""
    _, _, rest = written.removeprefix("transformer.").partition("h.")
    number, _, name = rest.partition(".")
    if name not in _FUSED:
        known = _LITGPT.get(name)
        path, shape = find_module(f"model.layers.{number}.{known}" if known else written, base)
        return {path: (shape, [a], [b])}
    places = [find_module(f"model.layers.{number}.self_attn.{side}", base) for side in _SIDES]
    count, r = a.shape[0] // b.shape[1], b.shape[1]
    enabled = said.enabled or _enabled([shape[0] for _, shape in places], count, b.shape[0], written)
    chosen = [place for place, on in zip(places, enabled, strict=True) if on]
    if len(chosen) != count or sum(shape[0] for _, shape in chosen) != b.shape[0]:
        raise broken(f"{written[:200]}: factors for {count} of query, key and value do not fit the base")
    found: _Found = {}
    row = 0
    for index, (path, shape) in enumerate(chosen):
        down = Factor(source=a.source, name=a.name, rows=(slice(index * r, (index + 1) * r),))
        up = Factor(source=b.source, name=b.name, rows=(slice(row, row + shape[0]),))
        found[path] = (shape, [down], [up])
        row += shape[0]
    return found


def _enabled(sizes: list[int], count: int, rows: int, written: str) -> tuple[bool, bool, bool]:
    """Which of query, key and value fit; only where one answer does."""
    choices = [
        (q, k, v)
        for q in (True, False)
        for k in (True, False)
        for v in (True, False)
        if q + k + v == count and q * sizes[0] + k * sizes[1] + v * sizes[2] == rows
    ]
    if len(choices) == 1:
        return choices[0]
    raise RefusedError(
        f"{written[:200]}: {count} of query, key and value were trained, and the file does not say which",
        code="ZV025",
        hint="keep litgpt's hyperparameters.yaml beside the file",
    )


def _whole(written: str, a: Factor, b: Factor, base: BaseModel) -> _Found:
    """loralib: one module of the base, whose rows the enabled parts share evenly."""
    path, shape = find_module(written, base)
    r = b.shape[1]
    count = a.shape[0] // r
    if count == 1:
        return {path: (shape, [a], [b])}
    if a.shape[0] != count * r or b.shape[0] != shape[0] or shape[0] % count:
        raise RefusedError(
            f"{written[:200]}: {count} parts of a merged projection were trained, and it does not say which",
            code="ZV025",
            hint="convert it to a LoRA of the whole module where it was made",
        )
    size = shape[0] // count
    down = [Factor(source=a.source, name=a.name, rows=(slice(i * r, (i + 1) * r),)) for i in range(count)]
    up = [Factor(source=b.source, name=b.name, rows=(slice(i * size, (i + 1) * size),)) for i in range(count)]
    return {path: (shape, down, up)}


def _joined(
    path: str, shape: tuple[int, int], factors: list[tuple[Factor, Factor]], scale: float
) -> Callable[[], LowRank]:
    """A module's update: one pair of factors, or several that each make their own rows."""
    if len(factors) == 1:
        return pair(path, shape, *factors[0], scale)
    if any(down.shape[1] != shape[1] for down, _ in factors):
        raise broken(f"{path} has {shape[1]} inputs, its factors have {factors[0][0].shape[1]}")

    def load() -> LowRank:
        import torch

        a = torch.cat([down.load() for down, _ in factors])
        b = torch.block_diag(*(up.load() for _, up in factors))  # type: ignore[no-untyped-call]
        return LowRank(a=a, b=b, scale=scale)

    return load


def _hyperparameters(folder: Path) -> Hyperparameters:
    import yaml

    path = folder / "hyperparameters.yaml"
    if not path.is_file() or path.stat().st_size > _MAX_YAML:
        return Hyperparameters()
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return Hyperparameters()
    if not isinstance(values, Mapping):
        return Hyperparameters()
    alpha = values.get("lora_alpha")
    usable = isinstance(alpha, int | float) and not isinstance(alpha, bool) and abs(alpha) < 1e6
    sides = tuple(values.get(f"lora_{name}") for name in ("query", "key", "value"))
    known = all(isinstance(side, bool) for side in sides)
    return Hyperparameters(
        alpha=float(alpha) if usable and alpha is not None else None,
        enabled=(bool(sides[0]), bool(sides[1]), bool(sides[2])) if known else None,
    )
