"""Checks ZL001 to ZL003: `zoo.lock.json`, and whether files and base are those that it records."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.adapter import LOCK_NAME, MADE, RELEASE_NAME
from zoo.errors import SpecError, UndecidedError
from zoo.provenance import file_problems, sha256_bytes, sha256_file
from zoo.report import Finding, Location, Severity
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.places import in_lock

if TYPE_CHECKING:
    from zoo.specs.lock import Lock

_AGAIN = "make the release again with zoo convert or zoo train; the lock is never edited by hand"


def _readable(context: Context) -> Iterator[Finding]:
    try:
        lock = context.repo.lock
    except SpecError as error:
        yield Finding(message=error.message, location=in_lock(context.repo.root), fix=_AGAIN)
        return
    if lock is None:
        yield Finding(message=f"the release has no {LOCK_NAME}: nothing records what its files should be",
                      location=Location(file=LOCK_NAME), fix=_AGAIN)  # fmt: skip


def _digests(context: Context) -> Iterator[Finding | Measurement]:
    recorded, present = recorded_lock(context).files, context.digests
    for name, problem in file_problems(recorded, present):
        made = name in MADE
        yield Finding(
            message=f"{name[:200]} {problem}",
            severity=Severity.ERROR if made else Severity.INFO,
            location=Location(file=name[:200]),
            fix=_AGAIN if made else "nothing to do: the file is yours, and zoo publish records it anew",
        )
    yield Measurement(name="files", value=len(recorded))


def _base_prompts(context: Context) -> Iterator[Finding]:
    lock, base, root = recorded_lock(context).base, context.known_base, context.repo.root
    fix = "validate with the base at the recorded revision, or make the release again for this one"
    if lock.id.casefold() != base.id.casefold() and "/" in base.id:
        yield Finding(message=f"the release was made for {lock.id}, and the base at hand is {base.id}",
                      location=in_lock(root, "base.id"), fix=fix)  # fmt: skip
    if lock.revision and base.revision and lock.revision != base.revision:
        yield Finding(
            message=f"the release wants the base at {lock.revision[:12]}; {base.revision[:12]} is at hand",
            location=in_lock(root, "base.revision"),
            fix=fix,
        )
    if sha256_file(base.tokenizer_path) != lock.tokenizer_sha256:
        yield Finding(message="the base's tokenizer has changed since the release was made",
                      location=in_lock(root, "base.tokenizer_sha256"), fix=fix)  # fmt: skip
    if lock.tokenizer_config_sha256 and base.tokenizer_config_sha256 != lock.tokenizer_config_sha256:
        yield Finding(message="the base's tokenizer_config.json has changed since the release was made",
                      location=in_lock(root, "base.tokenizer_config_sha256"), fix=fix)  # fmt: skip
    if sha256_bytes(base.chat_template.encode()) != lock.chat_template_sha256:
        yield Finding(message="the base's chat template has changed since the release was made",
                      location=in_lock(root, "base.chat_template_sha256"), fix=fix)  # fmt: skip


def foreign(context: Context) -> str:
    """Why there is nothing to compare with in a folder that zoo did not make; empty for a release.

    Nobody stated what such a folder's files should be, so no statement goes unchecked. A release whose lock
    is missing is another matter: there the statement was lost.
    """
    present = any((context.repo.root / name).is_file() for name in (RELEASE_NAME, LOCK_NAME))
    return (
        ""
        if present
        else f"not a zoo release: no {RELEASE_NAME}, no {LOCK_NAME}, so no digests to compare with"
    )


def recorded_lock(context: Context) -> "Lock":
    """The lock, which ZL001 has found readable.

    Raises:
        UndecidedError: there is none.
    """
    if context.repo.lock is None:
        raise UndecidedError(f"no {LOCK_NAME}")
    return context.repo.lock


_READ = ("ZL001",)
LOCK_CHECKS = (
    Check(code="ZL001", title="zoo.lock.json is there and readable", run=_readable, unless=foreign),
    Check(code="ZL002", title="Every file is the one that was recorded", run=_digests, requires=_READ,
          unless=foreign),
    Check(code="ZL003", title="The base's tokenizer and template are those recorded", run=_base_prompts,
          requires=_READ, needs=frozenset({Need.BASE}), unless=foreign),
)  # fmt: skip
