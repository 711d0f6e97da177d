"""What cannot become an aLoRA: what would change the prefix, or has no exact low-rank form here.

An aLoRA leaves every token before the invocation to the base model. Whatever a source does outside gated
low-rank updates would either change those tokens, and with them the KV cache that the aLoRA is to share,
or be lost. Each rule has a code; its page says why and what to do.
Measured against PEFT 0.21.2, which accepts most of these together with invocation tokens without an error.
"""

from collections.abc import Callable
from dataclasses import dataclass

from zoo.converters.keys import Part
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.layouts import CONFIG_NAME
from zoo.models import BaseModel

MUTATING_INITS = ("pissa", "olora", "corda", "lora_ga")
HIDDEN_INIT_FOLDERS = ("pissa_init", "pissa_backup")
_MAX_SWIFT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One reason to refuse.

    Attributes:
        code: the stable code.
        found: what the source has, as the end of a sentence "it …"; empty when the rule does not concern it.
        hint: what to do.
    """

    code: str
    found: Callable[[Source], str]
    hint: str


def refuse(source: Source, base: BaseModel, *, initial: bool) -> None:
    """Raises for the first rule that concerns the source, and names the codes of the others.

    Args:
        source: an opened folder.
        base: the base model of the result.
        initial: whether the factors before training are at hand, which makes ZV006 and ZV013 foldable.

    Raises:
        RefusedError: with the rule's code.
    """
    if found := refusal(source, initial=initial):
        raise found
    _refuse_residual(source, base)


def refusal(source: Source, *, initial: bool) -> RefusedError | None:
    """What the first rule that concerns the source says; None where none does, whatever the base."""
    hits = [(rule, what) for rule in RULES if (what := rule.found(source))]
    if initial:
        hits = [(rule, what) for rule, what in hits if rule.code not in ("ZV006", "ZV013")]
    if not hits:
        return None
    (rule, what), *others = hits
    also = f" (and {', '.join(other.code for other, _ in others)})" if others else ""
    return RefusedError(
        f"{source.folder.name} cannot become an aLoRA: it {what}{also}", code=rule.code, hint=rule.hint
    )


def _refuse_residual(source: Source, base: BaseModel) -> None:
    """Over a PiSSA residual the factors are right, over the original model they are not."""
    named = source.config.base_model_name_or_path or ""
    if "pissa" in named.lower() and "pissa" not in base.id.lower():
        raise RefusedError(
            f"{source.folder.name} was trained over {named!r}, a PiSSA residual by its name, not {base.id!r}",
            code="ZV018",
            hint="convert pissa_converted, or name the residual model itself with --base",
        )


def mutating_init(source: Source) -> str:
    """The init that moved part of the base weight into the factors, else empty."""
    init = source.config.init_lora_weights
    return init if isinstance(init, str) and init.lower().startswith(MUTATING_INITS) else ""


def _has(part: Part) -> Callable[[Source], bool]:
    return lambda source: any(key.part is part for key in source.keys.values())


def _extra(name: str) -> Callable[[Source], bool]:
    return lambda source: bool((source.config.model_extra or {}).get(name))


def _when(*tests: Callable[[Source], object], what: str) -> Callable[[Source], str]:
    return lambda source: what if any(test(source) for test in tests) else ""


def _is_lora(source: Source) -> bool:
    return source.config.peft_type.upper() == "LORA"


def _bias(source: Source) -> str:
    trained = source.config.bias != "none"
    return f"trained biases of the base model (bias={source.config.bias!r})" if trained else ""


def _saved_modules(source: Source) -> str:
    saved = source.config.modules_to_save or []
    return f"replaces whole modules ({', '.join(saved[:4])})" if saved else ""


def _extra_states(source: Source) -> str:
    """ms-swift saves what it trained beside its adapters one folder above them; swift/tuners/base.py."""
    above = source.folder.parent / CONFIG_NAME
    if not (source.config.model_extra or {}).get("swift_type") or not above.is_file():
        return ""
    small = above.stat().st_size <= _MAX_SWIFT_BYTES
    found = b"extra_state_keys" in above.read_bytes() if small else True
    return "was saved by ms-swift together with trained states of the base model" if found else ""


def _mutated(source: Source) -> str:
    init = mutating_init(source)
    return f"was initialised with {init!r}, which changes the base weights for every token" if init else ""


def _hidden_init(source: Source) -> str:
    if source.folder.name == "pissa_converted" or mutating_init(source):
        return ""  # the first is already a difference; the second is ZV006
    for name in HIDDEN_INIT_FOLDERS:
        if (source.folder / name).is_dir():
            return f"was trained over a PiSSA init, although its config does not say so (it holds {name}/)"
    return ""


def _parameters(source: Source) -> str:
    raw = source.config.target_parameters
    return "adapts raw parameters such as MoE experts (target_parameters)" if raw else ""


def _missing_factors(source: Source) -> str:
    found = not _is_lora(source) or any(key.part is Part.A for key in source.keys.values())
    return "" if found else "holds no LoRA factor"


def _empty_dora(source: Source) -> str:
    missing = source.config.use_dora and not _has(Part.MAGNITUDE)(source)
    return "is a DoRA by its config, without the magnitudes of one" if missing else ""


RULES: tuple[Rule, ...] = (
    Rule(code="ZV002", found=_bias, hint="train again with bias='none'"),
    Rule(code="ZV003", found=_saved_modules, hint="train again without modules_to_save"),
    Rule(code="ZV003", found=_extra_states, hint="train again without additional trainable parameters"),
    Rule(
        code="ZV004",
        found=_when(
            lambda s: s.config.trainable_token_indices is not None,
            _has(Part.TOKENS),
            what="trained embedding rows of single tokens (trainable_token_indices)",
        ),
        hint="train again without new tokens; an invocation of existing special tokens needs none",
    ),
    Rule(
        code="ZV005",
        found=_when(_has(Part.EMBEDDING), what="adapts an embedding, through which the prefix passes"),
        hint="train again with linear target_modules only",
    ),
    Rule(
        code="ZV006",
        found=_mutated,
        hint="give the adapter as it was before training with --initial FOLDER, or save it with PEFT's "
        "path_initial_model_for_weight_conversion",
    ),
    Rule(
        code="ZV007",
        found=_when(
            lambda s: str(s.config.init_lora_weights).lower() == "loftq",
            _extra("loftq_config"),
            what="was initialised with LoftQ: its factors also repair one quantised copy of the base",
        ),
        hint="train again over the full-precision base",
    ),
    Rule(code="ZV008", found=_empty_dora, hint="save the adapter again with PEFT's save_pretrained"),
    Rule(
        code="ZV009",
        found=_when(lambda s: s.config.layer_replication, what="repeats layers (layer_replication)"),
        hint="train over the base as it is",
    ),
    Rule(code="ZV010", found=_parameters, hint="train again with dense layers as target_modules"),
    Rule(
        code="ZV011",
        found=_when(
            lambda s: s.config.lora_bias,
            _has(Part.BIAS_A),
            _has(Part.BIAS_B),
            what="has a bias in its factors (lora_bias), for which normal form has no place",
        ),
        hint="train again with lora_bias=false",
    ),
    Rule(
        code="ZV012",
        found=_when(
            _extra("arrow_config"),
            lambda s: _is_lora(s) and _has(Part.SINGULAR)(s),
            _extra("use_qa_lora"),
            _extra("use_merged_linear"),
            what="is a variant that zoo cannot fold: Arrow, AdaLoRA by another name, or ms-swift's own",
        ),
        hint="train a plain LoRA; zoo explain ZV012 lists what can be folded",
    ),
    Rule(
        code="ZV013",
        found=_hidden_init,
        hint="convert the folder pissa_converted, or give --initial FOLDER with the adapter before training",
    ),
    Rule(code="ZV016", found=_missing_factors, hint="give the folder that PEFT's save_pretrained wrote"),
)
