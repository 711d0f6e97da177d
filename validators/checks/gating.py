"""Checks ZC003 to ZC006: all that the adapter changes lies behind the gate, so prefix KV is the base's.

Source of each rule: runs of peft 0.21.2 against the pristine base; the drift of the prefix that was seen is
on the code's page.
"""

from collections.abc import Iterator

from zoo.report import Finding
from zoo.validators.check import Check, Context
from zoo.validators.places import in_config

# Initialisations that move part of the base's weights into the adapter and leave a changed base behind.
_MUTATING = ("pissa", "olora", "corda", "lora_ga", "loftq")
_REFUSED_VARIANTS = ("velora_config", "monteclora_config", "arrow_config", "kasa_config")
_RETRAIN = "train again without it"


def _no_bias(context: Context) -> Iterator[Finding]:
    if (bias := context.repo.config.bias) != "none":
        yield Finding(
            message=f"bias is {bias!r}: trained biases act on every token, before the invocation too",
            location=in_config(context.repo.root, "bias"),
            fix='train again with bias="none"',
        )


def _nothing_beside_the_factors(context: Context) -> Iterator[Finding]:
    config, root = context.repo.config, context.repo.root
    if config.modules_to_save:
        names = ", ".join(config.modules_to_save)[:120]
        yield Finding(
            message=f"modules_to_save replaces {names} for every token",
            location=in_config(root, "modules_to_save"),
            fix=_RETRAIN,
        )
    if config.trainable_token_indices:
        yield Finding(
            message="trainable_token_indices changes embeddings, before the invocation too",
            location=in_config(root, "trainable_token_indices"),
            fix=_RETRAIN,
        )


def _gateable(context: Context) -> Iterator[Finding]:
    config, root = context.repo.config, context.repo.root
    extra = config.model_extra or {}
    refused = {
        "use_dora": config.use_dora,
        "use_bdlora": bool(config.use_bdlora),
        "target_parameters": bool(config.target_parameters),
        "init_lora_weights": config.init_lora_weights == "mica",
        **{key: bool(extra.get(key)) for key in _REFUSED_VARIANTS},
    }
    for key in (key for key, present in refused.items() if present):
        yield Finding(
            message=f"{key}: PEFT refuses this variant together with invocation tokens",
            location=in_config(root, key),
            fix="zoo convert folds it where that is exact, and says so where it is not",
        )
    if config.use_qalora:
        yield Finding(
            message="use_qalora: outside GPTQ, PEFT ignores it and computes something else",
            location=in_config(root, "use_qalora"),
            fix="zoo convert folds it",
        )


def _base_unchanged(context: Context) -> Iterator[Finding]:
    config, root = context.repo.config, context.repo.root
    init = config.init_lora_weights
    if isinstance(init, str) and init.lower().startswith(_MUTATING):
        yield Finding(
            message=f"init_lora_weights is {init!r}: loading it changes the base's weights for every token",
            location=in_config(root, "init_lora_weights"),
            fix="zoo convert folds the difference to the base into a LoRA of twice the rank",
        )
    if config.layer_replication:
        yield Finding(
            message="layer_replication makes another base model, with more layers",
            location=in_config(root, "layer_replication"),
            fix=_RETRAIN,
        )


_READ = ("ZC001",)
GATING_CHECKS = (
    Check(code="ZC003", title="No biases are trained", run=_no_bias, requires=_READ),
    Check(code="ZC004", title="Nothing but low-rank factors is trained", run=_nothing_beside_the_factors,
          requires=_READ),
    Check(code="ZC005", title="The variant can be gated", run=_gateable, requires=_READ),
    Check(code="ZC006", title="Loading the adapter leaves the base as it is", run=_base_unchanged,
          requires=_READ),
)  # fmt: skip
