"""The sections about where the weights come from: base, conversion, training, version, changes."""

from collections.abc import Iterator, Mapping

from zoo.adapter import LOCK_NAME, WEIGHTS_NAME
from zoo.cards.markdown import cell, code, folded, image, number, table
from zoo.cards.record import CardRecord
from zoo.contracts.version import Version
from zoo.pictures.training import TRAINING_NAME, alternative
from zoo.specs.lock import INVENTED, ConversionRecord, TrainingRecord


def base(record: CardRecord) -> str:
    """The base model, exactly."""
    named = record.release.base
    lock = record.lock.base if record.lock else None
    revision = named.revision or (lock.revision if lock else None)
    lines = [f"- id: {code(named.id)}"]
    if revision:
        lines.append(f"- commit: {code(revision)}")
    else:
        lines.append("- commit: none, because the weights did not come from the Hub")
    if lock and lock.source:
        lines.append(f"- came from: {cell(lock.source)}")
    if lock and lock.weights_sha256:
        lines.append(f"- weights: sha256 `{lock.weights_sha256}`")
    if lock:
        lines.append(f"- `tokenizer.json`: sha256 `{lock.tokenizer_sha256}`")
        lines.append(f"- chat template: sha256 `{lock.chat_template_sha256}`")
    return "## Base model\n\n" + "\n".join(lines)


def making(record: CardRecord) -> str:
    """How the weights were made; empty when nothing is recorded."""
    if record.lock is None or not (record.lock.conversion or record.lock.training):
        return ""
    parts = ["## How it was made"]
    if record.lock.conversion:
        parts.append(_conversion(record.lock.conversion))
    if record.lock.training:
        parts.append(_training(record.lock.training))
        if TRAINING_NAME in record.pictures:
            parts.append(image(TRAINING_NAME, alternative(record.lock.training)))
    if record.release.training_data:
        sources = "\n".join(f"- {cell(line)}" for line in record.release.training_data)
        parts.append(f"Training data, as the author says:\n\n{sources}")
    return "\n\n".join(parts)


def version(record: CardRecord) -> str:
    """Version and files."""
    made_by = f" Files written by alora-zoo {cell(record.lock.zoo_version)}." if record.lock else ""
    weights = record.files.get(WEIGHTS_NAME)
    digest = f" `{WEIGHTS_NAME}`: sha256 `{weights}`." if weights else ""
    tag = f", tag `{record.tag}`" if record.hub_id else ""
    said = f" `{LOCK_NAME}` has every digest, and what is said here as data." if record.lock else ""
    return f"## Version\n\n{record.release.version}{tag}.{made_by}{digest}{said}"


def changes(record: CardRecord) -> str:
    """What is new in each version, the newest first; empty where the author does not say."""
    known = {text: found for text in record.release.changes if (found := Version.parse(text))}
    if not known:
        return ""
    parts = ["## Changes", "As the author says."]
    for text in sorted(known, key=lambda one: known[one].order, reverse=True):
        lines = "\n".join(f"- {cell(line)}" for line in record.release.changes[text])
        parts.append(f"**{cell(text)}**\n\n{lines}")
    return "\n\n".join(parts)


def _conversion(conversion: ConversionRecord) -> str:
    files = ", ".join(
        f"{cell(name)} `{digest[:12]}…`" for name, digest in sorted(conversion.source_files.items())
    )
    changed = [line for change in conversion.changes for line in change.lines]
    steps = "\n".join(f"1. {cell(step)}" for step in [*conversion.steps, *changed])
    return (
        f"Converted from {cell(conversion.source_format)} ({files}). Largest relative error of a folded "
        f"module against the source's own update: {number(float(conversion.fold_error))}.\n\n{steps}"
    ).rstrip()


def _training(training: TrainingRecord) -> str:
    what = {
        "supervised": "Trained on answers (cross-entropy)",
        "distillation": "Distilled from the source LoRA (KL divergence on answer tokens)",
    }[training.method]
    settings = _leaves({name: value for name, value in training.settings.items() if name != INVENTED})
    rows = [[cell(name), cell(str(value))] for name, value in settings]
    versions = _pairs(training.versions)
    return (
        f"{what}: {training.samples:,} samples, {training.steps:,} steps, seed {training.seed}, last loss "
        f"{number(float(training.final_loss))} nats a token. Data file: sha256 `{training.data_sha256}`."
        + _invented(training)
        + (f" Computed with {versions}." if versions else "")
        + (f"\n\n{folded('All settings', table(['setting', 'value'], rows))}" if rows else "")
    )


def _invented(training: TrainingRecord) -> str:
    made = training.settings.get(INVENTED)
    if not isinstance(made, Mapping):
        return ""
    return (
        f" Its requests were written by the base model, like {cell(str(made.get('origin', '')))}; its "
        "answers are the source LoRA's."
    )


def _leaves(values: Mapping[str, object], within: str = "") -> Iterator[tuple[str, object]]:
    """Settings by name, those of a group under the group's name."""
    for name, value in sorted(values.items()):
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(f"{cell(name)} {cell(str(value))}" for name, value in sorted(values.items()))
