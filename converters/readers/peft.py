"""Reads a LoRA that PEFT saved, in any release since 0.5, into the neutral form.

Source: peft 0.21.2, tuners/lora/layer.py, `update_layer` (scale), tuners/lora/model.py, `_create_and_replace`
(patterns); keys of older releases from their state dicts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions, SourceInvocation
from zoo.converters.forms import BlockDiagonal, Difference, Form, Latent, LowRank, Pooled, remembered
from zoo.converters.keys import Part
from zoo.converters.leftovers import dropped_copies
from zoo.converters.module_weights import ModuleWeights
from zoo.converters.modules import ModuleTensors, adapted_modules, broken, missing_targets
from zoo.converters.patterns import resolve_patterns
from zoo.converters.refusal import mutating_init, refuse
from zoo.converters.source import Source
from zoo.converters.tensors import FLOATS, Place, TensorFile, finite, place_of
from zoo.converters.variants.approximation import Dense, approximated_modules
from zoo.converters.variants.based import Truncated
from zoo.converters.variants.dense import Decomposed
from zoo.errors import RefusedError, UsageError
from zoo.models import BaseModel
from zoo.specs.adapter_config import AdapterConfig

if TYPE_CHECKING:
    from torch import Tensor

NAME = "peft"
INITIAL_FOLDER = "pissa_init"  # where LLaMA-Factory keeps the adapter as it was before training
# keys that do not bear on what saved factors compute: bookkeeping, and settings of inits and of training
SILENT_KEYS = frozenset(
    {
        "inference_mode", "runtime_config", "megatron_config", "megatron_core", "ensure_weight_tying",
        "qalora_group_size", "eva_config", "corda_config", "lora_ga_config", "monteclora_config",
        "velora_config", "swift_type", "lora_dtype", "lorap_lr_ratio", "lorap_emb_lr",
    }
)  # fmt: skip
HARMLESS_INITS = ("gaussian", "eva", "orthogonal", "mica")  # they leave the base alone


def accepts(source: Source) -> bool:
    """Every folder with an `adapter_config.json`: what is not a LoRA is refused in `read`, with a reason."""
    return bool(source.config.peft_type)


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the folder.

    Args:
        source: the opened folder.
        base: the base model, whose modules the factors must fit.
        options: the folder of the adapter before training, for inits that change the base weights; the
            error that is accepted of a DoRA.

    Raises:
        RefusedError: ZV…, see `zoo.converters.refusal.RULES`; ZV008, ZV015 to ZV017 and ZV020.
        UsageError: `initial` is given for a source that needs none.
    """
    before = _initial_source(source, options.initial)
    refuse(source, base, initial=before is not None)
    modules, renames = adapted_modules(source, base)
    dropped = dropped_copies(source, base)
    weights = ModuleWeights(base=base, order=tuple(module.path for module in modules))
    plans = _stored(source, modules, weights)
    if before is None:
        loaders = _loaders(source, plans, options)
        digests = source.digests
    else:
        loaders = _differences(plans, _stored(before, adapted_modules(before, base)[0], weights))
        digests = {**source.digests, **{f"initial/{name}": d for name, d in before.digests.items()}}
    ids = tuple(source.config.alora_invocation_tokens or ())
    return LoraCheckpoint(
        format=NAME,
        folder=source.folder,
        name=source.name,
        config=source.config,
        modules=loaders,
        shapes={module.path: module.shape for module in modules},
        digests=digests,
        invocation=SourceInvocation(ids=ids) if ids else None,
        renames=tuple(renames),
        notes=tuple(_notes(source, plans, before)),
        lost=tuple(_lost(source, dropped)),
        warnings=(*_warnings(source, before), *missing_targets(source, base, loaders)),
        original=source.folder if any(stored.kind == "DoRA" for stored in plans.values()) else None,
    )


READER = Reader(name=NAME, accepts=accepts, read=read)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """One module's factors as they lie in the file, checked by shape and not yet loaded."""

    module: ModuleTensors
    file: TensorFile
    weights: ModuleWeights
    scale: float
    kind: str
    groups: int = 1

    def load(self) -> Form:
        a, b = self._tensor(Part.A), self._tensor(Part.B)
        plain = LowRank(a=a, b=b, scale=self.scale)
        match self.kind:
            case "plain":
                return replace(plain, places=self._places())
            case "QA-LoRA":
                return Pooled(plain=plain, group=self.groups)
            case "BD-LoRA":
                return BlockDiagonal(plain=plain, blocks=self.groups, of_a=a.shape[1] != self.module.shape[1])
            case "LoRA-XS":
                return Latent(plain=plain, mapping=self._tensor(Part.LATENT))
            case "KaSA":
                return Truncated(plain=plain, diagonal=self._tensor(Part.DIAGONAL), weight=self._weight)
            case _:
                return plain

    def dense(self) -> Dense:
        """A DoRA's update."""
        a, b = self._tensor(Part.A), self._tensor(Part.B)
        plain = LowRank(a=a, b=b, scale=self.scale)
        return Decomposed(plain=plain, magnitude=self._tensor(Part.MAGNITUDE), weight=self._weight)

    def _weight(self) -> "Tensor":
        return self.weights.load(self.module.path)

    def _places(self) -> tuple[Place, Place] | None:
        a, b = (place_of(self.file, self.module.names[part]) for part in (Part.A, Part.B))
        return (a, b) if a and b else None

    def _tensor(self, part: Part) -> "Tensor":
        name = self.module.names[part]
        tensor = self.file.load(name)
        if not finite(tensor):
            raise broken(f"{name} holds values that are not finite")
        return tensor


def _loaders(
    source: Source, plans: Mapping[str, _Stored], options: ReadOptions
) -> dict[str, Callable[[], Form]]:
    doras = {path: stored.dense for path, stored in plans.items() if stored.kind == "DoRA"}
    approximated: dict[str, Callable[[], Form]] = {}
    if doras:
        what = "is a DoRA, whose magnitudes rescale the base weight"
        approximated = approximated_modules(
            source.folder.name, what, doras, max_error=options.max_error, rank=options.cut, code="ZV008"
        )
    loaders: dict[str, Callable[[], Form]] = {
        path: remembered(stored.load) if stored.kind == "KaSA" else stored.load
        for path, stored in plans.items()
    }
    return {**loaders, **approximated}


def _stored(source: Source, modules: Sequence[ModuleTensors], weights: ModuleWeights) -> dict[str, _Stored]:
    config = source.config
    paths = [module.path for module in modules]
    ranks = resolve_patterns(config.rank_pattern, paths, config.r)
    alphas = resolve_patterns(config.alpha_pattern, paths, config.lora_alpha)
    return {
        module.path: _check(
            module,
            source,
            weights,
            ranks[module.path],
            scale_of(alphas[module.path], ranks[module.path], config),
        )
        for module in modules
    }


def scale_of(alpha: float, rank: int, config: AdapterConfig) -> float:
    """What multiplies the product of a module's factors."""
    return alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def _check(module: ModuleTensors, source: Source, weights: ModuleWeights, rank: int, scale: float) -> _Stored:
    """Decides by shape what form the factors have; the config only narrows what is allowed."""
    shapes = {part: source.file.shapes[name] for part, name in module.names.items()}
    for part, name in module.names.items():
        dimensions = 1 if part in (Part.DIAGONAL, Part.MAGNITUDE) else 2
        if shapes[part].dtype not in FLOATS or len(shapes[part].shape) != dimensions:
            raise broken(f"{name} is {shapes[part].dtype} with {len(shapes[part].shape)} dimensions")
    rows, columns = shapes[Part.A].shape
    out, inner = shapes[Part.B].shape
    if rows != rank:
        raise broken(f"{module.path} has rank {rows}, its config says {rank}")
    fits = {
        "plain": (out, columns) == module.shape and inner == rank,
        **_variants(source.config, module, rows, columns, out, inner),
    }
    variants = [part.value for part in (Part.LATENT, Part.DIAGONAL, Part.MAGNITUDE) if part in shapes]
    if len(variants) > 1:
        raise broken(f"{module.path} has {' and '.join(variants)}")
    for kind, part, shape in (
        ("LoRA-XS", Part.LATENT, (rank, rank)),
        ("KaSA", Part.DIAGONAL, (rank,)),
        ("DoRA", Part.MAGNITUDE, (out,)),
    ):
        if part in shapes:
            fits = {kind: fits["plain"] and shapes[part].shape == shape}
    if ((source.config.model_extra or {}).get("kasa_config") is not None) != (Part.DIAGONAL in shapes):
        raise broken(f"{module.path}: kasa_config and the KaSA diagonal lora_diag do not go together")
    kind = next((kind for kind, does in fits.items() if does), "")
    if not kind:
        raise RefusedError(
            f"{module.path}: factors {out}×{inner} and {rows}×{columns} do not fit the base module "
            f"{module.shape[0]}×{module.shape[1]}",
            code="ZV017",
            hint="name the base model that the adapter was trained on with --base",
        )
    groups = module.shape[1] // columns if kind == "QA-LoRA" else _blocks(source.config)
    return _Stored(module=module, file=source.file, weights=weights, scale=scale, kind=kind, groups=groups)


def _variants(
    config: AdapterConfig, module: ModuleTensors, rows: int, columns: int, out: int, inner: int
) -> dict[str, bool]:
    wide_out, wide_in = module.shape
    group, blocks = (config.model_extra or {}).get("qalora_group_size", 16), _blocks(config)
    return {
        "QA-LoRA": config.use_qalora
        and isinstance(group, int)
        and (out, columns * group, inner) == (wide_out, wide_in, rows),
        "BD-LoRA": blocks > 1
        and out == wide_out
        and (columns * blocks, inner) in ((wide_in, rows), (wide_in * blocks, rows // blocks))
        and rows % blocks == 0,
    }


def _blocks(config: AdapterConfig) -> int:
    blocks = config.use_bdlora.get("nblocks") if isinstance(config.use_bdlora, Mapping) else None
    return blocks if isinstance(blocks, int) and not isinstance(blocks, bool) else 1


def _initial_source(source: Source, initial: Path | None) -> Source | None:
    found = source.folder / INITIAL_FOLDER
    if initial is not None:
        if not mutating_init(source) and not found.is_dir():
            raise UsageError(
                "--initial is only for inits that change the base weights (PiSSA, OLoRA, CorDA, LoRA-GA)",
                hint="leave it out",
            )
        return Source.open(initial)
    return Source.open(found) if (found / "adapter_config.json").is_file() else None


def _differences(
    final: Mapping[str, _Stored], initial: Mapping[str, _Stored]
) -> dict[str, Callable[[], Form]]:
    if set(final) != set(initial):
        raise broken("the adapter before training has other modules than the trained one")
    for path, stored in final.items():
        if stored.kind != "plain" or initial[path].kind != "plain" or stored.scale != initial[path].scale:
            raise broken(f"{path} has another form or scale before training than after")

    def loader(path: str) -> Callable[[], Form]:
        return lambda: Difference(
            final=final[path].load().low_rank(), initial=initial[path].load().low_rank()
        )

    return {path: loader(path) for path in final}


def _notes(source: Source, plans: Mapping[str, _Stored], before: Source | None) -> list[str]:
    lines = []
    config = source.config
    scale = "rsLoRA scale alpha/sqrt(r)" if config.use_rslora else "scale alpha/r"
    lines.append(f"{scale} → folded into lora_B in float64; lora_alpha = r")
    if config.rank_pattern or config.alpha_pattern:
        lines.append("rank_pattern and alpha_pattern → resolved for each module")
    for kind in sorted({stored.kind for stored in plans.values()} - {"plain"}):
        count = sum(stored.kind == kind for stored in plans.values())
        how = "best plain factors, not exact" if kind == "DoRA" else "plain factors, exact"
        lines.append(f"{kind} → {how} ({count} modules)")
    if before is not None:
        lines.append("init that changed the base → trained update less initial update, rank doubled, exact")
    return lines


def _lost(source: Source, dropped: Sequence[str]) -> list[str]:
    lines = [f"tensor {name}: a copy of the base model's own weight" for name in dropped]
    training = [name for name, key in source.keys.items() if key.part is Part.TRAINING]
    if training:
        lines.append(f"{len(training)} tensors that act in training only, such as {training[0][:200]}")
    extra = source.config.model_extra or {}
    unknown = [key for key in source.config.unknown_keys if extra[key] and key not in SILENT_KEYS]
    lines.extend(f"config key {key[:100]}" for key in unknown)
    if source.config.lora_dropout:
        lines.append(f"lora_dropout {source.config.lora_dropout}, which acts in training only")
    return lines


def _warnings(source: Source, before: Source | None) -> list[str]:
    init = source.config.init_lora_weights
    if before is None and isinstance(init, str) and init.lower() not in HARMLESS_INITS:
        return [f"init_lora_weights is {init[:40]!r}, unknown to zoo; the factors are taken as they are"]
    return []
