"""Checks ZM…: `zoo.yaml`, and whether it says the same as the adapter's config."""

from collections.abc import Iterator

from zoo.adapter import LOCK_NAME, NOTES_NAME, RELEASE_NAME
from zoo.errors import SpecError
from zoo.report import Finding, Location, Severity
from zoo.specs.document import read_bounded
from zoo.specs.licences import conflict, unclear
from zoo.validators.check import Check, Context, Need
from zoo.validators.checks.lock import foreign
from zoo.validators.markup import acts
from zoo.validators.places import in_lock, in_release

_PLAIN = "write plain words or Markdown; neither HTML that acts nor characters that nobody sees"
NO_RELEASE = f"not a zoo release: no {RELEASE_NAME}"


def _readable(context: Context) -> Iterator[Finding]:
    root = context.repo.root
    try:
        release = context.repo.release
    except SpecError as error:
        key = error.message.partition(": ")[2].partition(":")[0]
        yield Finding(
            message=error.message, location=in_release(root, key), fix=error.hint or "mend the file"
        )
        return
    if release is None:
        yield Finding(
            message=f"{LOCK_NAME} is there, and the {RELEASE_NAME} that it belongs to is not",
            location=in_lock(root),
            fix="restore it, or make the release again with zoo convert",
        )


def _agrees(context: Context) -> Iterator[Finding]:
    from zoo.validators.catalog import known_codes

    release, config, root = context.repo.release, context.repo.config, context.repo.root
    if release is None:
        return
    named = config.base_model_name_or_path or ""
    if named.casefold() != release.base.id.casefold():
        yield Finding(
            message=f"zoo.yaml is for {release.base.id}, adapter_config.json for {named or 'no base model'}",
            location=in_release(root, "base.id"),
            fix="make both name the model that the adapter was trained on",
        )
    if config.revision and release.base.revision and config.revision != release.base.revision:
        yield Finding(
            message=f"zoo.yaml wants the base at {release.base.revision[:12]}, adapter_config.json "
            f"at {config.revision[:12]}",
            location=in_release(root, "base.revision"),
            fix="make both name the same commit",
        )
    for code in sorted(set(release.gate.allowed_skips) - known_codes()):
        yield Finding(
            message=f"gate.allowed_skips names {code}, and there is no such check",
            severity=Severity.WARNING,
            location=in_release(root, "gate.allowed_skips"),
            fix="zoo explain lists the codes",
        )


def _licence_fits(context: Context) -> Iterator[Finding]:
    release, base = context.repo.release, context.known_base
    if release is None:
        return
    place, fix = in_release(context.repo.root, "license"), "take a licence that keeps to the base's terms"
    if problem := conflict(base.license, release.license):
        yield Finding(message=problem, location=place, fix=fix)
    elif doubt := unclear(base.license, release.license):
        yield Finding(message=doubt, severity=Severity.WARNING, location=place, fix=fix)


def _no_licence(context: Context) -> str:
    if reason := _no_yaml(context):
        return reason
    return "" if context.known_base.license else "the base states no licence"


def _words_are_words(context: Context) -> Iterator[Finding]:
    """What the card shows of `zoo.yaml` is escaped, and other readers of the file do not escape it."""
    release, root = context.repo.release, context.repo.root
    if release is not None:
        lines = [("training_data", line) for line in release.training_data]
        changes = [("changes", line) for said in release.changes.values() for line in said]
        for key, text in (("description", release.description), *lines, *changes):
            if problem := acts(text):
                yield Finding(message=f"{key} {problem}", location=in_release(root, key), fix=_PLAIN)
    if (notes := root / NOTES_NAME).is_file():
        text = read_bounded(notes).decode("utf-8", "replace")
        if problem := acts(text, comments=True):
            yield Finding(message=f"{NOTES_NAME} {problem}", location=Location(file=NOTES_NAME), fix=_PLAIN)


def _no_words(context: Context) -> str:
    return "" if (context.repo.root / NOTES_NAME).is_file() else _no_yaml(context)


def _no_yaml(context: Context) -> str:
    return "" if (context.repo.root / RELEASE_NAME).is_file() else NO_RELEASE


RELEASE_CHECKS = (
    Check(code="ZM001", title="zoo.yaml is readable and complete", run=_readable, unless=foreign),
    Check(code="ZM002", title="zoo.yaml and the config agree", run=_agrees, requires=("ZM001", "ZC001"),
          unless=_no_yaml),
    Check(code="ZM003", title="The licence keeps to the base's terms", run=_licence_fits, requires=("ZM001",),
          needs=frozenset({Need.BASE}), unless=_no_licence),
    Check(code="ZM004", title="What the author wrote acts on nobody who reads it", run=_words_are_words,
          requires=("ZM001", "ZF003"), unless=_no_words),
)  # fmt: skip
