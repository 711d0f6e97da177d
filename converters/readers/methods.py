"""Reads PEFT's methods other than LoRA: each one's tensors into the form that computes its update.

`METHODS` says what a method stores and what makes a form of it: exact where the update is of low rank,
measured where it is not. `NO_UPDATE` names the methods that update no weight, or choose by the input.
Source: peft 0.21.2, tuners/*/config.py and tuners/*/layer.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form, remembered
from zoo.converters.keys import PREFIX
from zoo.converters.leftovers import dropped_copies
from zoo.converters.module_weights import ModuleWeights, stored_name
from zoo.converters.modules import broken, find_module, missing_targets, once
from zoo.converters.patterns import resolve_patterns
from zoo.converters.refusal import refuse
from zoo.converters.source import Source
from zoo.converters.variants.approximation import Dense, approximated_modules
from zoo.converters.variants.banks import vblora
from zoo.converters.variants.based import deft, hra
from zoo.converters.variants.blocks import gralora, miss
from zoo.converters.variants.dense import boft, c3a, hira, ia3, oft
from zoo.converters.variants.factored import adalora, delora, pvera, vera
from zoo.converters.variants.products import loha, lokr
from zoo.converters.variants.scattered import fourierft, randlora, shira
from zoo.converters.variants.stored import Stored
from zoo.errors import DefectError, RefusedError
from zoo.models import BaseModel

if TYPE_CHECKING:
    from torch import Tensor

Made = TypeVar("Made")
NAME = "peft-method"
_SHARED_PREFIX = "base_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One PEFT method.

    Attributes:
        name: as its paper spells it.
        parts: last names of the tensors of a module.
        build: makes an exact form, else None.
        dense: makes a form of full rank, else None.
        shared: last names of tensors that all modules share.
        alpha: the config key of its alpha, empty where it has none.
        about: what a method of full rank does, as the end of a sentence "it …".
    """

    name: str
    parts: tuple[str, ...]
    build: Callable[[Stored], Form] | None = None
    dense: Callable[[Stored], Dense] | None = None
    shared: tuple[str, ...] = ()
    alpha: str = ""
    about: str = ""


_LOKR = tuple(f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b"))
_BANKED = tuple(
    f"vblora_logits_{side}{end}" for side in "AB" for end in ("", "_topk_indices", "_topk_weights")
)

METHODS: Mapping[str, Method] = {
    "ADALORA": Method(
        name="AdaLoRA", parts=("lora_A", "lora_B", "lora_E"), build=adalora, alpha="lora_alpha"
    ),
    "LOHA": Method(
        name="LoHa",
        parts=("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        build=loha,
        alpha="alpha",
    ),
    "LOKR": Method(name="LoKr", parts=_LOKR, build=lokr, alpha="alpha"),
    "VERA": Method(
        name="VeRA", parts=("vera_lambda_b", "vera_lambda_d"), build=vera, shared=("vera_A", "vera_B")
    ),
    "PVERA": Method(
        name="PVeRA", parts=("pvera_lambda_b", "pvera_lambda_d"), build=pvera, shared=("pvera_A", "pvera_B")
    ),
    "DELORA": Method(
        name="DeLoRA", parts=("delora_A", "delora_B", "delora_lambda", "delora_w_norm"), build=delora
    ),
    "GRALORA": Method(
        name="GraLoRA",
        parts=("gralora_A", "gralora_B", "gralora_A_general", "gralora_B_general"),
        build=gralora,
        alpha="alpha",
    ),
    "MISS": Method(name="MiSS", parts=("miss_block",), build=miss),
    "BONE": Method(name="Bone", parts=("bone_block",), build=miss),
    "VBLORA": Method(name="VB-LoRA", parts=_BANKED, build=vblora, shared=("vblora_vector_bank",)),
    "HRA": Method(name="HRA", parts=("hra_u",), build=hra),
    "DEFT": Method(name="DEFT", parts=("deft_P", "deft_R"), build=deft),
    "OFT": Method(name="OFT", parts=("oft_R",), dense=oft, about="rotates the inputs (OFT)"),
    "BOFT": Method(
        name="BOFT",
        parts=("boft_R", "boft_s"),
        dense=boft,
        about="rotates the inputs and scales the outputs (BOFT)",
    ),
    "IA3": Method(name="IA³", parts=("ia3_l",), dense=ia3, about="scales inputs or outputs (IA³)"),
    "HIRA": Method(
        name="HiRA",
        parts=("hira_A", "hira_B"),
        dense=hira,
        about="multiplies the base weight elementwise (HiRA)",
    ),
    "FOURIERFT": Method(
        name="FourierFT",
        parts=("fourierft_spectrum",),
        dense=fourierft,
        about="sets a few frequencies (FourierFT)",
    ),
    "SHIRA": Method(
        name="SHiRA",
        parts=("shira_weight", "shira_indices"),
        dense=shira,
        about="sets single entries (SHiRA)",
    ),
    "RANDLORA": Method(
        name="RandLoRA",
        parts=("randlora_lambda", "randlora_gamma"),
        dense=randlora,
        shared=("randlora_A", "randlora_B"),
        about="sums random bases to full rank (RandLoRA)",
    ),
    "C3A": Method(name="C3A", parts=("c3a_kernel",), dense=c3a, about="adds circulant matrices (C3A)"),
}
_TOKENS = "adds trained vectors to the context and updates no weight"
_CHOOSES = "weighs several adapters anew for each token, so that it is no fixed update"
NO_UPDATE: Mapping[str, str] = {
    "PROMPT_TUNING": _TOKENS,
    "MULTITASK_PROMPT_TUNING": _TOKENS,
    "P_TUNING": _TOKENS,
    "PREFIX_TUNING": _TOKENS,
    "CPT": _TOKENS,
    "CARTRIDGE": _TOKENS,
    "ADAPTION_PROMPT": _TOKENS,
    "XLORA": _CHOOSES,
    "POLY": _CHOOSES,
    "LN_TUNING": "trains normalisation layers, through which the prefix passes",
    "TRAINABLE_TOKENS": "trains embedding rows, through which the prefix passes",
    "BEFT": "trains biases, for which a low-rank update has no place",
    "LILY": "routes through shared experts by the input",
    "PEANUT": "puts a nonlinear network beside each layer",
}


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
    grouped, shared, others = _group(source, method)
    dropped = dropped_copies(source, base, others)
    places = {written: find_module(written, base) for written in sorted(grouped)}
    once(path for path, _ in places.values())
    loaders = _storeds(source, base, method, grouped, shared, places)
    modules = _modules(source, method, loaders, options)
    exact = "best plain factors within --max-error" if method.dense else "plain factors, exact"
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
        warnings=(*_warnings(source, method, shared), *missing_targets(source, base, modules)),
    )


READER = Reader(name=NAME, accepts=accepts, read=read)


def _modules(
    source: Source, method: Method, loaders: Mapping[str, Callable[[], Stored]], options: ReadOptions
) -> dict[str, Callable[[], Form]]:
    if method.build is not None:
        return {path: remembered(_building(method.build, load)) for path, load in loaders.items()}
    if method.dense is None:
        raise DefectError(f"{method.name} has no form")
    dense = {path: _building(method.dense, load) for path, load in loaders.items()}
    return approximated_modules(
        source.folder.name, method.about, dense, max_error=options.max_error, code="ZV023"
    )


def _method(source: Source) -> Method:
    kind = source.config.peft_type.upper()
    if kind in METHODS:
        method = METHODS[kind]
        if (source.config.model_extra or {}).get("init_weights") != "bat":
            return method
        why = "multiplies the base weight (init_weights 'bat')"
    else:
        why = NO_UPDATE.get(kind, "is a method that zoo has no formula for")
    raise RefusedError(
        f"{source.folder.name} cannot become an aLoRA: {kind[:40]} {why}",
        code="ZV001",
        hint="of a method that does update weights: merge it with PEFT (merge_and_unload), save the model, "
        "and convert that with --extract RANK",
    )


def _group(source: Source, method: Method) -> tuple[dict[str, dict[str, str]], dict[str, str], list[str]]:
    """Tensor names by module and part, those of shared tensors by part, and the rest."""
    grouped: dict[str, dict[str, str]] = {}
    shared: dict[str, str] = {}
    others: list[str] = []
    for name in source.file.shapes:
        path, part = _split(name, (*method.parts, *method.shared))
        if not part:
            others.append(name)
            continue
        place = (
            grouped.setdefault(path, {}) if path else shared
        )  # RandLoRA repeats shared ones in each module
        if part in place:
            raise broken(f"{path} has two tensors for {part}: several adapters in one file")
        place[part] = name
    if not grouped:
        raise broken(f"there is no tensor of {method.name}")
    return grouped, shared, others


def _split(name: str, parts: tuple[str, ...]) -> tuple[str, str]:
    """Module path and part of a tensor name; both empty when it is of no part."""
    pieces = name.removeprefix(PREFIX).removeprefix(_SHARED_PREFIX).removesuffix(".weight").split(".")
    for index in range(len(pieces) - 1, max(-1, len(pieces) - 3), -1):
        if pieces[index] in parts:
            return ".".join(pieces[:index]), pieces[index]
    return "", ""


def _storeds(
    source: Source,
    base: BaseModel,
    method: Method,
    grouped: Mapping[str, Mapping[str, str]],
    shared: Mapping[str, str],
    places: Mapping[str, tuple[str, tuple[int, int]]],
) -> dict[str, Callable[[], Stored]]:
    config = source.config
    settings = {**(config.model_extra or {}), "r": config.r, "lora_alpha": config.lora_alpha}
    paths = [path for path, _ in places.values()]
    ranks = resolve_patterns(config.rank_pattern, paths, config.r)
    alphas = resolve_patterns(config.alpha_pattern, paths, _alpha(method, settings))
    widest = max(out for _, (out, _) in places.values()), max(wide for _, (_, wide) in places.values())
    weights = ModuleWeights(base=base)

    def loader(written: str) -> Callable[[], Stored]:
        path, shape = places[written]

        def load() -> Stored:
            names = {**shared, **grouped[written]}
            return Stored(
                path=path,
                shape=shape,
                tensors={part: _finite(source, name) for part, name in names.items()},
                settings=settings,
                rank=ranks[path],
                alpha=alphas[path],
                widest=widest,
                weight=partial(weights.load, path),
                has_bias=stored_name(f"{path}.bias", base) in base.tensors,
            )

        return load

    return {places[written][0]: loader(written) for written in grouped}


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


def _warnings(source: Source, method: Method, shared: Mapping[str, str]) -> list[str]:
    lines = []
    if method.name == "VeRA" and not shared:
        lines.append(
            "the random projections were not saved and are drawn again from projection_prng_key, as PEFT "
            "does; another release of torch may draw others"
        )
    if method.name == "PVeRA":
        lines.append("PVeRA is taken at its mean, as PEFT runs it when it is not sampled")
    return lines
