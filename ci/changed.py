"""Which adapters of a library changed since a commit, as git says."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import UndecidedError, UsageError
from zoo.provenance import BOOKKEEPING
from zoo.specs.policy import POLICY_NAME

# A hook finds these set, for the hook's own folder: with them git would take another folder for the top.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE")


def changed_folders(folders: Sequence[Path], since: str, *, policy: Path | None = None) -> list[Path]:
    """The adapter folders that hold a file which differs from a commit: committed, staged, or not yet known.

    A changed policy changes the verdict on everybody, so all folders count then. So does, for its folder, a
    file that git was told to ignore: whether that differs nobody knows.

    Args:
        folders: of adapters; each is asked about in the repository that it lies in.
        since: a commit, a tag or a branch; what is compared with is where it and HEAD parted.
        policy: the policy's file, where it is called otherwise than usual.

    Raises:
        UsageError: it is no commit.
        UndecidedError: git is not there, or this is no repository.
    """
    tops = {
        folder: Path(_git(folder, "rev-parse", "--show-toplevel").strip()).resolve() for folder in folders
    }
    changed: set[Path] = set()
    for top in dict.fromkeys(tops.values()):
        changed |= _changed(top, since)
    if any(path.name == POLICY_NAME for path in changed) or (policy and policy.resolve() in changed):
        return list(folders)
    return [
        folder
        for folder in folders
        if any(folder.resolve() in path.parents for path in changed) or _ignored(folder)
    ]


def _changed(top: Path, since: str) -> set[Path]:
    """The files of one repository that differ."""
    # two calls, since a commit that begins with a dash must not be read as an option
    commit = _git(
        top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}", what=since
    )
    parted = _git(top, "merge-base", commit.strip(), "HEAD", what=since).strip()
    # a file that was moved is a change where it was, too
    names = _git(top, "diff", "--name-only", "--no-renames", "-z", parted).split("\0")
    names += _git(top, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    return {top / name for name in names if name}


def _ignored(folder: Path) -> bool:
    """Whether git was told to ignore a file of an adapter, but for what clients keep for themselves."""
    names = _git(folder, "ls-files", "--others", "--ignored", "--exclude-standard", "-z", ".").split("\0")
    return any(name and name.partition("/")[0] not in BOOKKEEPING for name in names)


def _git(folder: Path, *arguments: str, what: str = "") -> str:
    place = folder if folder.is_dir() else folder.parent
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=place,
            env={name: value for name, value in os.environ.items() if name not in _OF_A_HOOK},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",  # a file's name is bytes
            check=False,
        )
    except FileNotFoundError:
        raise UndecidedError(
            "git is not installed, so what changed is not known", hint="leave --since out"
        ) from None
    if done.returncode == 0:
        return done.stdout
    if what:
        raise UsageError(f"{what} is no commit of this repository", hint="fetch it: git fetch --unshallow")
    said = " ".join(done.stderr.split())[:200]
    raise UndecidedError(
        f"git does not say what changed: {said}", hint="run it inside the repository"
    ) from None
