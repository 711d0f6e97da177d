"""Reads ResLoRA: each block of factors also serves the same module of the layers after it.

Of its three ways only the second, residual paths between blocks (`res_flag` 2, "bs" in the paper), has an
update that depends on nothing but the module's own input.
Source: microsoft/LMOps@c7b5576, reslora/myloralib/layers.py, `ResLoraLinear.forward`, and reslora.py,
`concat_loras` and `save_checkpoint`; arXiv 2402.18039.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.concat import WeightedSum
from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken, find_module, once
from zoo.converters.readers.pairs import Factor, assemble, complete, grouped, no_others, pair, renamed
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel

NAME, CONFIG = "reslora", "reslora_config.json"
_ENDINGS = {".lora_A": "A", ".lora_B": "B"}
_BLOCK = re.compile(r"(.+)\.loras\.(\d{1,4})")
_ALL = 999  # what its code makes of a pre_num of -1
_MAX_CONFIG = 100_000
_PLAIN, _BETWEEN_BLOCKS = 0, 2
Load = Callable[[], LowRank]


def accepts(source: Source) -> bool:
    """Whether there is no config of PEFT's, and a tensor is of a numbered block."""
    return not source.config.peft_type and any(
        ".loras." in name and name.endswith(tuple(_ENDINGS)) for name in source.file.shapes
    )


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the file.

    Raises:
        RefusedError: ZV012, residual paths that bring another layer's input in; ZV015 to ZV017; ZV024, its
            config is not beside it.
    """
    modules, others = grouped(source.file.shapes, _ENDINGS)
    no_others(others)
    alpha, rank, reach = _config(source)
    blocks: dict[str, list[Load]] = {}
    shapes: dict[str, tuple[int, int]] = {}
    places: dict[str, str] = {}
    for written, parts in modules.items():
        complete(written, parts, "A", "B")
        match = _BLOCK.fullmatch(written)
        if match is None:
            raise broken(f"{written[:200]} is no block of a ResLoRA")
        path, shape = find_module(match[1], base)
        a, b = Factor(source=source, name=parts["A"]), Factor(source=source, name=parts["B"])
        if a.shape[0] != rank:
            raise broken(f"{written[:200]} has rank {a.shape[0]}, its config says {rank}")
        blocks.setdefault(path, []).append(pair(path, shape, a, b, alpha / rank))
        shapes[path], places[match[1]] = shape, path
    once(places.values())
    loaders = {path: _sum(chain) for path, chain in _chains(blocks, shapes, base, reach).items()}
    notes = [f"ResLoRA → each module's own factors beside those of up to {reach} layers before, exact"]
    return assemble(source, NAME, loaders, shapes, notes=notes, renames=renamed(places))


READER = Reader(name=NAME, accepts=accepts, read=read)


def _chains(
    blocks: Mapping[str, Sequence[Load]],
    shapes: Mapping[str, tuple[int, int]],
    base: BaseModel,
    reach: int,
) -> dict[str, list[Load]]:
    """Each module's own blocks, and those of the same module in so many layers before it.

    A path ends where the module before it has another shape.
    """
    kinds: dict[str, list[str]] = {}
    for path in sorted(base.linears, key=_numbers):
        kinds.setdefault(path.rpartition(".")[2], []).append(path)
    found: dict[str, list[Load]] = {}
    for kind in {path.rpartition(".")[2] for path in blocks}:
        linked: list[str] = []
        for path in kinds.get(kind, []):
            if path not in blocks:
                raise broken(f"there is nothing for {path}, and the modules after it use what it has")
            if linked and shapes[linked[-1]] != shapes[path]:
                linked = []
            linked.append(path)
            found[path] = [load for one in linked[-1 - reach :] for load in blocks[one]]
    return found


def _numbers(path: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", path))


def _sum(chain: Sequence[Load]) -> Callable[[], Form]:
    return lambda: WeightedSum(parts=tuple((1.0, load()) for load in chain))


def _config(source: Source) -> tuple[float, int, int]:
    """Alpha, the rank, and over how many layers a block is used again."""
    path = source.folder / CONFIG
    if path not in source.inputs or path.stat().st_size > _MAX_CONFIG:
        raise RefusedError(
            f"{CONFIG} is not beside {source.file.path.name}, and without it alpha and the paths are unknown",
            code="ZV024",
            hint=f"put {CONFIG} into the same folder, as ResLoRA's save_checkpoint does",
        )
    try:
        settings: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise broken(f"{CONFIG} is no object")
    way = settings.get("res_flag", 0)
    if way not in (_PLAIN, _BETWEEN_BLOCKS):
        raise RefusedError(
            f"this ResLoRA has res_flag {str(way)[:20]}: an update with the input of another layer in it",
            code="ZV012",
            hint="merge it with ResLoRA's own approximation and convert the merged model with --extract RANK",
        )
    alpha, rank = settings.get("lora_alpha", 32), settings.get("rank", 16)
    before = settings.get("pre_num", 0) if way == _BETWEEN_BLOCKS else 0
    odd = any(
        isinstance(value, bool) or not isinstance(value, int | float) for value in (alpha, rank, before)
    )
    if odd or rank != int(rank) or before != int(before):
        raise broken(f"rank, lora_alpha or pre_num in {CONFIG} is no number, or not whole")
    rank, before = int(rank), int(before)
    if not 0 < rank <= 4096 or not abs(alpha) < 1e6 or before < -1:
        raise broken(f"{CONFIG} has rank {rank}, alpha {alpha}, pre_num {before}")
    return float(alpha), rank, _ALL if before == -1 else before
