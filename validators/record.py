"""Puts a report into a release's lock, as the evidence that its card is made from."""

from zoo.adapter import LOCK_NAME, AdapterRepo
from zoo.errors import UsageError
from zoo.report import Report


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


def record(repo: AdapterRepo, report: Report) -> None:
    """Replaces the lock's evidence by this report; the payload and its digests stay as they are.

    Raises:
        UsageError: there is no lock.
        OSError: it cannot be written; the old one is whole then.
    """
    from zoo.render.json import to_document
    from zoo.specs.lock import dump_lock
    from zoo.staging import write_file

    if repo.lock is None:
        raise UsageError(f"{repo.root} has no {LOCK_NAME} to record in")
    lock = repo.lock.model_copy(update={"evidence": to_document(report)})
    write_file(repo.root / LOCK_NAME, dump_lock(lock).encode())
