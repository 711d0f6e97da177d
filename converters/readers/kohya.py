"""Reads kohya's and LyCORIS' files, and Diffusers' old names: one alpha a module, underscores for dots.

`lora_te_model_layers_0_self_attn_q_proj.lora_down.weight`: the module's path is found by comparing with the
base's paths spelt the same way, and refused where two of them are one. A missing alpha means the rank.
Source: kohya-ss/sd-scripts, networks/lora.py; KohakuBlueleaf/LyCORIS, modules/locon.py, loha.py, lokr.py;
huggingface/diffusers, loaders/lora_conversion_utils.py.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form, LowRank
from zoo.converters.module_weights import ModuleWeights
from zoo.converters.modules import broken, find_module, once
from zoo.converters.readers.pairs import Factor, assemble, complete, grouped, no_others, pair, renamed
from zoo.converters.source import Source
from zoo.converters.variants.approximation import Dense, approximated_modules
from zoo.converters.variants.dense import Decomposed
from zoo.converters.variants.products import loha, lokr
from zoo.converters.variants.stored import Stored
from zoo.errors import RefusedError
from zoo.models import BaseModel

if TYPE_CHECKING:
    from torch import Tensor

NAME = "kohya"
_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
_ENDINGS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
    ".dora_scale": "dora_scale",
    **{f".{part}": part for part in (*_LOHA, *_LOKR)},
}
_STARTS = ("lora_te1_", "lora_te2_", "lora_te_", "lora_unet_", "lora_transformer_", "lycoris_", "lora_")
_PIPELINE = ("", "text_encoder.", "transformer.", "unet.")  # the part of a pipeline that a module is of


def accepts(source: Source) -> bool:
    """Whether there is no config, and a tensor with one of these names."""
    ends = tuple(ending for ending in _ENDINGS if ending != ".alpha")
    return not source.config.peft_type and any(name.endswith(ends) for name in source.file.shapes)


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the file.

    Raises:
        RefusedError: ZV008, a DoRA; ZV015 to ZV017; ZV025, a name that fits several modules.
    """
    modules, others = grouped(source.file.shapes, _ENDINGS)
    no_others(others)
    flat = _flat_names(base)
    weights = ModuleWeights(base=base)
    exact: dict[str, Callable[[], Form]] = {}
    dense: dict[str, Callable[[], Dense]] = {}
    shapes, places = {}, {}
    for written, parts in modules.items():
        path, shape = _place(written, flat, base)
        weight = partial(weights.load, path)
        load = _form(source, path, shape, parts, weight)
        if "dora_scale" in parts:
            dense[path] = partial(_decomposed, source, parts["dora_scale"], load, weight, shape)
        else:
            exact[path] = load
        shapes[path], places[written] = shape, path
    once(places.values())
    if dense:
        what = "is a DoRA, whose magnitudes rescale the base weight's columns"
        exact |= approximated_modules(
            source.name, what, dense, max_error=options.max_error, code="ZV008", teacher=False
        )
    bare = sum("alpha" not in parts for parts in modules.values())
    warnings = [f"{bare} modules have no alpha; it is taken as their rank, a scale of 1"] if bare else []
    notes = ["alpha / rank of each module → folded into lora_B"]
    return assemble(source, NAME, exact, shapes, notes=notes, renames=renamed(places), warnings=warnings)


READER = Reader(name=NAME, accepts=accepts, read=read)


def _form(
    source: Source,
    path: str,
    shape: tuple[int, int],
    parts: Mapping[str, str],
    weight: "Callable[[], Tensor]",
) -> Callable[[], Form]:
    if any(part in parts for part in (*_LOHA, *_LOKR)):
        return partial(_product, source, path, shape, parts, weight)
    complete(path, parts, "down", "up")
    a = Factor(source=source, name=parts["down"])
    b = Factor(source=source, name=parts["up"])
    rank = a.shape[0]
    return pair(path, shape, a, b, _alpha(source, parts, rank) / rank)


def _product(
    source: Source,
    path: str,
    shape: tuple[int, int],
    parts: Mapping[str, str],
    weight: "Callable[[], Tensor]",
) -> Form:
    tensors = {part: source.file.load(parts[part]) for part in parts if part not in ("alpha", "dora_scale")}
    for part, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise broken(f"{parts[part]} holds values that are not finite")
    ranked = next((part for part in ("hada_w1_b", "lokr_w1_b", "lokr_w2_b") if part in parts), "")
    whole = not ranked  # LyCORIS sets alpha to the rank where both factors are whole
    rank = 1 if whole else tensors[ranked].shape[0]
    stored = Stored(
        path=path,
        shape=shape,
        tensors=tensors,
        settings={},
        rank=rank,
        alpha=1.0 if whole else _alpha(source, parts, rank),
        widest=shape,
        weight=weight,
    )
    form = loha(stored) if any(part in parts for part in _LOHA) else lokr(stored)
    stored.all_taken()
    return form


def _alpha(source: Source, parts: Mapping[str, str], rank: int) -> float:
    if "alpha" not in parts:
        return float(rank)
    tensor = source.file.load(parts["alpha"])
    if tensor.numel() != 1 or not tensor.isfinite().all():
        raise broken(f"{parts['alpha'][:200]} is no number")
    return float(tensor)


def _flat_names(base: BaseModel) -> dict[str, list[str]]:
    """Every path of the base by its spelling with underscores."""
    found: dict[str, list[str]] = {}
    for path in (*base.linears, *([] if "lm_head" in base.linears else ["lm_head"])):
        found.setdefault(path.replace(".", "_"), []).append(path)
    return found


def _place(written: str, flat: Mapping[str, list[str]], base: BaseModel) -> tuple[str, tuple[int, int]]:
    if "." in written:
        names = (written.removeprefix(start) for start in _PIPELINE)
        return find_module(next((name for name in names if name in base.linears), written), base)
    short = next((written.removeprefix(start) for start in _STARTS if written.startswith(start)), written)
    fits = {
        path
        for spelling, paths in flat.items()
        if spelling == short or spelling.endswith(f"_{short}") or short.endswith(f"_{spelling}")
        for path in paths
    }
    exact = set(flat.get(short, []))
    fits = exact or fits
    if len(fits) > 1:
        raise RefusedError(
            f"{written[:200]!r} can be {' or '.join(sorted(fits)[:3])}: their names are one without dots",
            code="ZV025",
            hint="save it with dots in its module names, as PEFT does",
        )
    return find_module(next(iter(fits), written), base)


def _decomposed(
    source: Source, name: str, load: Callable[[], Form], weight: Any, shape: tuple[int, int]
) -> Dense:
    """LyCORIS's DoRA: magnitudes of input columns, `[1, in]`; of output rows with `wd_on_out`, `[out, 1]`."""
    magnitude = source.file.load(name)
    found = tuple(magnitude.shape)
    of_inputs = found == (1, shape[1])
    if (not of_inputs and found != (shape[0], 1)) or not magnitude.isfinite().all():
        raise broken(f"{name[:200]} is {found}, neither of inputs nor of outputs")
    plain: LowRank = load().low_rank()
    return Decomposed(plain=plain, magnitude=magnitude, weight=weight, of_inputs=of_inputs)
