"""Checks ZC… of `adapter_config.json` as a document: bounds, names, what loaders and engines make of it."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from zoo.errors import SpecError
from zoo.limits import few_values
from zoo.report import Finding, Location, Severity
from zoo.specs.adapter_config import AdapterConfig
from zoo.specs.document import MAX_VALUES, read_bounded
from zoo.validators.check import Check, Context, Need
from zoo.validators.loading import TOKENIZER_CONFIGS, leads_out, loading_keys, texts
from zoo.validators.places import in_config
from zoo.validators.targets import ALL_LINEAR

# Keys of peft 0.21.2's LoraConfig that our model does not read, because they do not change a saved adapter.
HARMLESS_KEYS = frozenset(
    {
        "arrow_config", "corda_config", "ensure_weight_tying", "eva_config", "inference_mode", "kasa_config",
        "loftq_config", "lora_ga_config", "megatron_config", "megatron_core", "monteclora_config",
        "qalora_group_size", "runtime_config", "velora_config",
    }
)  # fmt: skip

_HARMLESS_PATTERN = re.compile(r"[\w.\\^$-]*")  # neither repetition nor choice: nothing to backtrack over
LISTED = 20  # findings of one kind that are spelt out
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def _readable(context: Context) -> Iterator[Finding]:
    try:
        _ = context.repo.config
    except SpecError as error:
        key = error.message.partition(": ")[2].partition(":")[0].partition(".")[0]
        yield Finding(
            message=error.message,
            location=in_config(context.repo.root, key),
            fix="write values within the bounds: a rank is at most 4,096 and equals the weights' own",
        )


def _activated_by_peft(context: Context) -> Iterator[Finding]:
    config, root = context.repo.config, context.repo.root
    if config.peft_type.upper() != "LORA":
        yield Finding(
            message=f"peft_type is {config.peft_type!r}; only LORA can be activated",
            location=in_config(root, "peft_type"),
            fix="zoo convert folds what can be folded into a LoRA",
        )
    if config.task_type != "CAUSAL_LM":
        yield Finding(
            message=f"task_type is {config.task_type!r}: PEFT then never activates it, without a word",
            location=in_config(root, "task_type"),
            fix='set "task_type": "CAUSAL_LM"',
        )


def _normal_form(context: Context) -> Iterator[Finding]:
    config = context.repo.config
    deviations = {
        "rank_pattern": "ranks differ by module" if config.rank_pattern else "",
        "alpha_pattern": "scales differ by module" if config.alpha_pattern else "",
        "use_rslora": "the scale is alpha/sqrt(r)" if config.use_rslora else "",
        "lora_bias": "the factors have biases" if config.lora_bias else "",
        "lora_alpha": f"lora_alpha is {config.lora_alpha:g} with r = {config.r}"
        if config.lora_alpha != config.r else "",
    }  # fmt: skip
    for key, what in deviations.items():
        if what:
            yield Finding(
                message=f"not in normal form: {what}, which not every engine reads the same way",
                severity=Severity.WARNING,
                location=in_config(context.repo.root, key),
                fix="zoo convert folds it into the weights, exactly",
            )


def _plain_names(context: Context) -> Iterator[Finding]:
    config, root = context.repo.config, context.repo.root
    if config.target_modules is None and not config.target_parameters:
        yield Finding(
            message="target_modules is missing: what is adapted depends on PEFT's defaults",
            location=in_config(root, "target_modules"),
            fix="write the list of module names",
        )
    for key, pattern in _patterns(config):
        yield Finding(
            message=f"{key} holds the regular expression {pattern[:60]!r}, which loading would run",
            location=in_config(root, key),
            fix="write plain module names; zoo convert does",
        )


def _patterns(config: AdapterConfig) -> Iterator[tuple[str, str]]:
    """Every value that PEFT would run as a regular expression and that could backtrack."""
    for key in ("target_modules", "exclude_modules"):
        value = getattr(config, key)
        if isinstance(value, str) and value != ALL_LINEAR:
            yield key, value
    layers = config.layers_pattern or []
    candidates = {
        "rank_pattern": list(config.rank_pattern),
        "alpha_pattern": list(config.alpha_pattern),
        "layers_pattern": [layers] if isinstance(layers, str) else layers,
    }
    for key, values in candidates.items():
        yield from ((key, value) for value in values if not _harmless(value))


def _harmless(pattern: str) -> bool:
    if not _HARMLESS_PATTERN.fullmatch(pattern):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _known_keys(context: Context) -> Iterator[Finding]:
    unknown = [key for key in context.repo.config.unknown_keys if key not in HARMLESS_KEYS]
    for key in unknown[:LISTED]:
        yield Finding(
            message=f"unknown key {key[:80]!r}: nobody knows what a loader makes of it",
            severity=Severity.INFO,
            location=in_config(context.repo.root, key[:80]),
            fix="remove it, unless a tool of yours needs it",
        )


def _names_base(context: Context) -> Iterator[Finding]:
    config, base = context.repo.config, context.known_base
    named, where = (
        config.base_model_name_or_path or "",
        in_config(context.repo.root, "base_model_name_or_path"),
    )
    if not named:
        yield Finding(
            message="base_model_name_or_path is empty: loaders cannot find the base model",
            severity=Severity.WARNING,
            location=where,
            fix=f'set it to "{base.id}"',
        )
    elif not _HUB_ID.fullmatch(named):
        yield Finding(
            message=f"base_model_name_or_path is {named[:120]!r}, which is no name on the Hub",
            severity=Severity.WARNING,
            location=where,
            fix=f'set it to "{base.id}"',
        )
    elif "/" in base.id and named.casefold() != base.id.casefold():
        yield Finding(
            message=f"the adapter is for {named}, and the base model at hand is {base.id}",
            location=where,
            fix=f"validate with --base {named}, or set the name if the weights are the same",
        )


def _imports_nothing(context: Context) -> Iterator[Finding]:
    config, root = context.repo.config, context.repo.root
    extra = config.model_extra or {}
    if (core := extra.get("megatron_core", "megatron.core")) not in (None, "megatron.core"):
        yield Finding(
            message=f"megatron_core names the module {str(core)[:80]!r}, which older PEFT imports",
            location=in_config(root, "megatron_core"),
            fix="remove the key",
        )
    if config.auto_mapping:
        yield Finding(
            message="auto_mapping names a class to import; with task_type CAUSAL_LM nothing needs it",
            location=in_config(root, "auto_mapping"),
            fix="set it to null",
        )
    for file, document in (("", extra), *_tokenizer_documents(context)):
        for key, value in islice(loading_keys(document), LISTED):
            yield Finding(
                message=f"{file or 'the config'} has {key}, which names or allows code: {str(value)[:80]!r}",
                location=in_config(root, key) if not file else Location(file=file, pointer=key),
                fix="remove the key",
            )


def _tokenizer_documents(context: Context) -> Iterator[tuple[str, object]]:
    for entry in context.entries:
        if entry.name in TOKENIZER_CONFIGS and entry.kind == "file":
            raw = read_bounded(context.repo.root / entry.name)
            with suppress(ValueError, RecursionError):  # what does not parse, ZF003 says
                few_values(raw, MAX_VALUES)
                yield entry.name, json.loads(raw.decode("utf-8"))


def _stays_here(context: Context) -> Iterator[Finding]:
    config, root = context.repo.config, context.repo.root
    named = config.base_model_name_or_path or ""
    if problem := leads_out(named) or ("" if named.isascii() else "is not written in ASCII"):
        yield Finding(
            message=f"base_model_name_or_path {problem}: a loader takes what lies there for the base",
            location=in_config(root, "base_model_name_or_path"),
            fix="write the base's name on the Hub, org/name",
        )
    for key, value in (config.model_extra or {}).items():
        if problem := next((found for text in texts(value) if (found := leads_out(text))), ""):
            yield Finding(
                message=f"{key[:80]} {problem}", location=in_config(root, key[:80]), fix="remove the key"
            )


_READ = ("ZC001",)
_BASE = frozenset({Need.BASE})
CONFIG_CHECKS = (
    Check(code="ZC001", title="adapter_config.json is readable and within bounds", run=_readable),
    Check(code="ZC002", title="PEFT activates this kind of adapter", run=_activated_by_peft, requires=_READ),
    Check(code="ZC007", title="The adapter is in normal form", run=_normal_form, requires=_READ),
    Check(
        code="ZC008", title="Modules are named, not matched by expressions", run=_plain_names, requires=_READ
    ),
    Check(code="ZC009", title="Every key of the config is known", run=_known_keys, requires=_READ),
    Check(
        code="ZC010", title="The config names the base model", run=_names_base, requires=_READ, needs=_BASE
    ),
    Check(code="ZC011", title="The config makes no loader import code", run=_imports_nothing, requires=_READ),
    Check(code="ZC012", title="The config leads to no file or address", run=_stays_here, requires=_READ),
)
