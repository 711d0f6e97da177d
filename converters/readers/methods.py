"""Reads PEFT's methods other than LoRA: each one's tensors into the form that computes its update.

`zoo.converters.variants.catalog` says what a method stores and what makes a form of it: exact where the
update is of low rank, measured where it is not; and why the others can have none.
Source: peft 0.21.2, tuners/*/model.py, `_get_adapter_state_dict`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form, remembered
from zoo.converters.leftovers import dropped_copies
from zoo.converters.module_weights import ModuleWeights, stored_name
from zoo.converters.modules import broken, find_module, missing_targets, once
from zoo.converters.patterns import resolve_patterns
from zoo.converters.readers.method_tensors import TensorNames, group, in_model_order, targeted
from zoo.converters.refusal import refuse
from zoo.converters.source import Source
from zoo.converters.variants.approximation import approximated_modules
from zoo.converters.variants.catalog import METHODS, NO_UPDATE
from zoo.converters.variants.method import Method, Size
from zoo.converters.variants.stored import Stored
from zoo.errors import DefectError, RefusedError
from zoo.models import BaseModel

if TYPE_CHECKING:
    from torch import Tensor

Made = TypeVar("Made")
NAME = "peft-method"
UNKNOWN = "is a method that zoo has no formula for"


def accepts(source: Source) -> bool:
    """Whether a PEFT config names another method than LoRA."""
    return bool(source.config.peft_type) and source.config.peft_type.upper() != "LORA"


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the folder.

    Raises:
        RefusedError: ZV001, the method updates no weight or is unknown; ZV023, it has full rank; ZV002 to
            ZV004 and ZV015 to ZV020 as for a LoRA.
    """
    method = _method(source)
    refuse(source, base, initial=False)
    names = group(source, method)
    dropped = dropped_copies(source, base, names.others)
    if method.unlisted and not names.modules:
        names = replace(names, modules={path: {} for path in targeted(source.config, base)})
    places = {written: find_module(written, base) for written in sorted(names.modules)}
    once(path for path, _ in places.values())
    loaders = _storeds(source, base, method, names, places)
    sizes = _sizes(source, names, places)
    dense = method.dense is not None and (method.build is None or method.full(_settings(source), sizes))
    modules = _modules(source, method, loaders, options, dense=dense)
    exact = "best plain factors, not exact" if dense else "plain factors, exact"
    return LoraCheckpoint(
        format=f"peft {method.name}",
        folder=source.folder,
        name=source.name,
        config=source.config,
        modules=modules,
        shapes=dict(places.values()),
        digests=dict(source.digests),
        renames=tuple(
            f"module {written} → {path}" for written, (path, _) in places.items() if path != written
        ),
        notes=(f"{method.name} → {exact} ({len(modules)} modules)",),
        lost=tuple(f"tensor {name}: a copy of the base model's own weight" for name in dropped),
        warnings=(*_warnings(method, names), *missing_targets(source, base, modules)),
        original=source.folder if dense else None,
    )


READER = Reader(name=NAME, accepts=accepts, read=read)


def _modules(
    source: Source,
    method: Method,
    loaders: Mapping[str, Callable[[], Stored]],
    options: ReadOptions,
    *,
    dense: bool,
) -> dict[str, Callable[[], Form]]:
    if not dense and method.build is not None:
        return {path: remembered(_building(method.build, load)) for path, load in loaders.items()}
    if method.dense is None:
        raise DefectError(f"{method.name} has no form")
    forms = {path: _building(method.dense, load) for path, load in loaders.items()}
    return approximated_modules(
        source.folder.name, method.about, forms, max_error=options.max_error, rank=options.cut, code="ZV023"
    )


def _method(source: Source) -> Method:
    kind = source.config.peft_type.upper()
    method = METHODS.get(kind)
    why = method.without(_settings(source)) if method else NO_UPDATE.get(kind, UNKNOWN)
    if method and not why:
        return method
    raise RefusedError(
        f"{source.folder.name} cannot become an aLoRA: {kind[:40]} {why}",
        code="ZV001",
        hint="of a method that does update weights: merge it with PEFT (merge_and_unload), save the model, "
        "and convert that with --extract RANK",
    )


def _sizes(
    source: Source, names: TensorNames, places: Mapping[str, tuple[str, tuple[int, int]]]
) -> list[Size]:
    return [
        Size(shape=shape, parts={part: source.file.shapes[name].shape for part, name in found.items()})
        for found, (_, shape) in ((names.modules[written], place) for written, place in places.items())
    ]


def _storeds(
    source: Source,
    base: BaseModel,
    method: Method,
    names: TensorNames,
    places: Mapping[str, tuple[str, tuple[int, int]]],
) -> dict[str, Callable[[], Stored]]:
    config, settings = source.config, _settings(source)
    paths = [path for path, _ in places.values()]
    ranks = resolve_patterns(config.rank_pattern, paths, config.r)
    alphas = resolve_patterns(config.alpha_pattern, paths, _alpha(method, settings))
    widest = max(out for _, (out, _) in places.values()), max(wide for _, (_, wide) in places.values())
    order = in_model_order(places, base) if method.ordered else list(places)
    weights = ModuleWeights(base=base, order=tuple(places[written][0] for written in order))
    among = tuple(places[written][1] for written in order)
    keys = {
        written: method.key(places[written][0], index, len(order), settings)
        for index, written in enumerate(order)
    }
    names.keys_agree(keys.values())

    def loader(index: int, written: str) -> Callable[[], Stored]:
        path, shape = places[written]
        found = {**names.shared, **names.keyed.get(keys[written], {}), **names.modules[written]}

        def load() -> Stored:
            return Stored(
                path=path,
                shape=shape,
                tensors={part: _finite(source, name) for part, name in found.items()},
                settings=settings,
                rank=ranks[path],
                alpha=alphas[path],
                widest=widest,
                weight=partial(weights.load, path),
                has_bias=stored_name(f"{path}.bias", base) in base.tensors,
                index=index,
                among=among,
            )

        return load

    return {places[written][0]: loader(index, written) for index, written in enumerate(order)}


def _settings(source: Source) -> dict[str, Any]:
    """The config as it was written, with the two numbers that have bounds."""
    config = source.config
    return {**(config.model_extra or {}), "r": config.r, "lora_alpha": config.lora_alpha}


def _alpha(method: Method, settings: Mapping[str, Any]) -> float:
    """The config's alpha, which PEFT always writes; 0 for a method that has none."""
    value = settings.get(method.alpha, 0.0 if not method.alpha else None)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e6:
        raise broken(f"the config's {method.alpha} is {str(value)[:40]!r}, not a number")
    return float(value)


def _finite(source: Source, name: str) -> "Tensor":
    tensor = source.file.load(name)
    if tensor.is_complex() or not tensor.isfinite().all():
        raise broken(f"{name} holds values that are not finite")
    return tensor


def _building(build: Callable[[Stored], Made], load: Callable[[], Stored]) -> Callable[[], Made]:
    def built() -> Made:
        stored = load()
        made = build(stored)
        stored.all_taken()
        return made

    return built


def _warnings(method: Method, names: TensorNames) -> list[str]:
    lines = [method.warning] if method.warning else []
    if method.name == "VeRA" and not names.shared:
        lines.append(
            "the random projections were not saved and are drawn again from projection_prng_key, as PEFT "
            "does; another release of torch may draw others"
        )
    if method.name == "PVeRA":
        lines.append("PVeRA is taken at its mean, as PEFT runs it when it is not sampled")
    return lines
