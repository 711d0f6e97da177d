"""Puts into a release what only a validation can: the vectors, and the report as the card's evidence."""

from typing import TYPE_CHECKING

from zoo.adapter import LOCK_NAME, AdapterRepo
from zoo.errors import UndecidedError, UsageError, VerdictError, ZooError
from zoo.report import Flagged, Report, Severity, Skipped

if TYPE_CHECKING:
    from zoo.validators.check import Context


def check_recordable(repo: AdapterRepo, *, static: bool) -> None:
    """Refuses what could not be recorded, before any work is done.

    Raises:
        UsageError: there is no lock, or the report would leave out the dynamic part.
        SpecError: ZL001, the lock is damaged.
    """
    if static:
        raise UsageError(
            "--record wants the whole validation, and --static leaves out half", hint="drop --static"
        )
    if repo.lock is None:
        raise UsageError(
            f"{repo.root} has no {LOCK_NAME} to record in", hint="zoo convert makes a release, which has one"
        )


def prepare(context: "Context") -> str:
    """What a validation that will be recorded begins with: writes vectors where none fit.

    Vectors that belong to these very files stay as they are: their numbers measured anew would differ in the
    last digits and make another release.

    Args:
        context: of the validation that follows; nothing was asked of it yet.

    Returns:
        Why no vectors could be written, in a sentence; empty when they are there.

    Raises:
        UsageError: see `check_recordable`.
        SpecError: ZL001, the lock is damaged.
        OSError: they cannot be written.
    """
    if context.replay:
        raise UsageError(
            "--record wants the whole validation, and --replay is a part of it", hint="drop --replay"
        )
    check_recordable(context.repo, static=context.static)
    return "" if vectors_fit(context.repo) else write_vectors(context)


def vectors_fit(repo: AdapterRepo) -> bool:
    """Whether the folder holds vectors, recorded in its lock, of exactly its config, weights and base."""
    from zoo.adapter import VECTORS_NAME
    from zoo.provenance import sha256_file
    from zoo.validators.conformance.replay_checks import other_base
    from zoo.validators.conformance.shipped import adapter_record
    from zoo.validators.conformance.shipped_file import read

    path, lock = repo.root / VECTORS_NAME, repo.lock
    if lock is None or not path.is_file() or lock.files.get(VECTORS_NAME) != sha256_file(path):
        return False
    try:
        record = read(path).record
        return record.adapter == adapter_record(repo) and not other_base(record.base, lock.base)
    except (ZooError, ValueError):
        return False


def write_vectors(context: "Context") -> str:
    """Measures the vectors, writes them into the folder, and their digest into its lock.

    Nothing is loaded of an adapter that fails a static check; the validation then says what is wrong.

    Args:
        context: what it has read of the folder that changes here is forgotten.

    Returns:
        Why it could not be done, in a sentence; empty when it was.

    Raises:
        OSError: they cannot be written.
    """
    from zoo.adapter import VECTORS_NAME
    from zoo.provenance import sha256_bytes
    from zoo.specs.lock import dump_lock
    from zoo.staging import write_file

    repo = context.repo
    try:
        content = _measured(context)
    except (VerdictError, UndecidedError, UsageError) as error:
        return f"no {VECTORS_NAME} was written: {error.message}"
    if repo.lock is None:
        return f"no {VECTORS_NAME} was written: there is no {LOCK_NAME} to record it in"
    files = {**repo.lock.files, VECTORS_NAME: sha256_bytes(content)}
    write_file(repo.root / VECTORS_NAME, content)
    write_file(repo.root / LOCK_NAME, dump_lock(repo.lock.model_copy(update={"files": files})).encode())
    repo.__dict__.pop("lock", None)
    for name in ("entries", "digests", "shipped", "replaying"):
        context.__dict__.pop(name, None)
    return ""


def _measured(context: "Context") -> bytes:
    from zoo.validators.catalog import STATIC_CHECKS
    from zoo.validators.check import Need, required_by
    from zoo.validators.conformance.peft_checks import STATIC
    from zoo.validators.conformance.shipped import Writer
    from zoo.validators.conformance.shipped_file import dump
    from zoo.validators.engine import run_checks

    if missing := context.unavailable(Need.TORCH):
        raise UndecidedError(missing)
    for result in run_checks(context, required_by(STATIC_CHECKS, STATIC)):
        match result.outcome:
            case Flagged(severity=Severity.ERROR, findings=findings):
                raise VerdictError(f"{result.code} failed: {findings[0].message}")
            case Skipped(reason=reason):
                raise UndecidedError(f"{result.code} was not checked: {reason}")
            case _:
                pass
    if not context.repo.config.is_activated:
        raise VerdictError("the adapter has no invocation: it never activates")
    base = context.known_base
    writer = Writer(
        repo=context.repo,
        base=base,
        rig=context.bases.rigs.of(
            base,
            dtype="float32",
            device=context.device,
            attention=context.attention,
            progress=context.progress,
        ),
        invocation=context.invocation.ids,
        prompts=context.prompts,
        progress=context.progress,
    )
    return dump(writer.measure())


def record(repo: AdapterRepo, report: Report) -> None:
    """Replaces the lock's evidence by this report; the payload and its digests stay as they are.

    An example call that was made with other files than the report is about is dropped: the card would print
    it as these files' own.

    Raises:
        UsageError: there is no lock.
        OSError: it cannot be written; the old one is whole then.
    """
    from zoo.render.json import to_document
    from zoo.specs.lock import dump_lock
    from zoo.staging import write_file

    if repo.lock is None:
        raise UsageError(f"{repo.root} has no {LOCK_NAME} to record in")
    same = repo.lock.evidence is not None and repo.lock.evidence.get("digest") == report.digest
    made = repo.lock.example if same else None
    lock = repo.lock.model_copy(update={"evidence": to_document(report), "example": made})
    write_file(repo.root / LOCK_NAME, dump_lock(lock).encode())
