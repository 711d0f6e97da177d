"""Which adapters of a library changed since a commit, as git says."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from zoo.errors import UndecidedError, UsageError
from zoo.specs.policy import POLICY_NAME


def changed_folders(folders: Sequence[Path], since: str) -> list[Path]:
    """The adapter folders that hold a file which differs from a commit: committed, staged, or not yet known.

    A changed policy changes the verdict on everybody, so all folders count then.

    Args:
        folders: of adapters, all in one repository.
        since: a commit, a tag or a branch; what is compared with is where it and HEAD parted.

    Raises:
        UsageError: it is no commit.
        UndecidedError: git is not there, or this is no repository.
    """
    if not folders:
        return []
    top = Path(_git(folders[0], "rev-parse", "--show-toplevel").strip()).resolve()
    # two calls, since a commit that begins with a dash must not be read as an option
    commit = _git(
        top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{since}^{{commit}}", what=since
    )
    parted = _git(top, "merge-base", commit.strip(), "HEAD", what=since).strip()
    names = _git(top, "diff", "--name-only", "-z", parted).split("\0")
    names += _git(top, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    changed = {top / name for name in names if name}
    if any(path.name == POLICY_NAME for path in changed):
        return list(folders)
    return [folder for folder in folders if any(folder.resolve() in path.parents for path in changed)]


def _git(folder: Path, *arguments: str, what: str = "") -> str:
    place = folder if folder.is_dir() else folder.parent
    try:
        done = subprocess.run(["git", *arguments], cwd=place, capture_output=True, text=True, check=False)
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
