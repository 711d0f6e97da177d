"""Publishing into a local folder: staged beside it and exchanged in one system call."""

import shutil
from collections.abc import Callable
from pathlib import Path

from zoo.adapter import LOCK_NAME
from zoo.errors import RefusedError, UsageError
from zoo.hub import Remote
from zoo.progress import Progress
from zoo.provenance import OUTSIDE_PAYLOAD
from zoo.publishing.plan import ReleasePlan, files_of, foreign_files, plan_release
from zoo.publishing.previous import compare_with_folder, release_version
from zoo.publishing.result import Outcome, Published, read_back
from zoo.publishing.stage import StagedRelease, parse_lock
from zoo.staging import check_target, staged_folder


def publish_to_folder(
    staged: StagedRelease,
    target: Path,
    *,
    dry_run: bool,
    progress: Progress,
    on_plan: Callable[[ReleasePlan], object] | None,
) -> Published:
    """Makes a folder the release, whole or not at all; see `zoo.release.publish` for the arguments.

    Raises:
        RefusedError: ZH002, the folder holds this version with other content; ZO200, ZO201, ZO203, the
            contract changed in a way that the version does not say.
        VerdictError: ZH004, what stands there afterwards is something else.
        OSError: the disk is full, or permission is missing.
    """
    present = files_of(target) if target.is_dir() else {}
    lock = parse_lock((target / LOCK_NAME).read_bytes()) if LOCK_NAME in present else None
    published = lock is not None and staged.same_release(lock)
    if lock is not None and published:
        staged = staged.adopt(lock, lambda name: (target / name).read_bytes() if name in present else None)
    elif lock is not None and release_version(target) == staged.spec.version:
        raise RefusedError(
            f"{target} holds version {staged.spec.version} with other content",
            code="ZH002",
            hint="a published version does not change: raise `version` in zoo.yaml, or remove that folder",
        )
    compared = None if published else compare_with_folder(staged.folder, target)
    plan = plan_release(staged, str(target), Remote(exists=bool(present), files=present), compared=compared)
    if on_plan is not None:
        on_plan(plan)
    if dry_run:
        return Published(outcome="planned", plan=plan, where=str(target), verified={})
    if plan.writes:
        progress("publish", done=1, total=2, note="writing")
        with staged_folder(target, replace=True) as stage:
            shutil.copytree(staged.folder, stage, dirs_exist_ok=True)
    verified = read_back(staged.folder, target, str(target))
    progress("publish", done=2, total=2, note="verified")
    outcome: Outcome = "published" if plan.writes else "unchanged"
    return Published(outcome=outcome, plan=plan, where=str(target), verified=verified)


def check_folder(source: Path, target: Path) -> None:
    """Refuses a folder that must not be replaced, before any work is done.

    Raises:
        UsageError: it is no folder, or overlaps the release.
        RefusedError: ZH010, it holds files that no release put there.
    """
    check_target(target, replace=True)
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UsageError(f"{target} and the release overlap", hint="name a folder elsewhere")
    if not target.is_dir():
        return
    present = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    lock = parse_lock((target / LOCK_NAME).read_bytes()) if LOCK_NAME in present else None
    known = {*lock.files, *OUTSIDE_PAYLOAD} if lock else set()
    if foreign := sorted(present - known):  # a folder has no history to get them back from
        raise foreign_files(str(target), foreign)
