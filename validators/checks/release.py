"""Checks ZM…: `zoo.yaml`, and whether it says the same as the adapter's config."""

from collections.abc import Iterator

from zoo.adapter import LOCK_NAME, RELEASE_NAME
from zoo.errors import SpecError
from zoo.report import Finding, Severity
from zoo.validators.check import Check, Context
from zoo.validators.checks.lock import foreign
from zoo.validators.places import in_lock, in_release

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


def _no_yaml(context: Context) -> str:
    return "" if (context.repo.root / RELEASE_NAME).is_file() else NO_RELEASE


RELEASE_CHECKS = (
    Check(code="ZM001", title="zoo.yaml is readable and complete", run=_readable, unless=foreign),
    Check(code="ZM002", title="zoo.yaml and the config agree", run=_agrees, requires=("ZM001", "ZC001"),
          unless=_no_yaml),
)  # fmt: skip
