"""The contract of what was published before, beside that of a release about to be published.

The one before is the highest tagged version below the new one; where there is no such tag, what stands in the
target now. A breaking change demands a version that says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.adapter import RELEASE_NAME
from zoo.contracts.comparison import Comparison
from zoo.contracts.contract import Contract, read_contract
from zoo.contracts.source import fetch_contract
from zoo.contracts.version import Version, demanded, honours
from zoo.errors import NotFoundError, RefusedError, SpecError, UsageError
from zoo.hub import Remote
from zoo.hub.address import Address
from zoo.specs.document import read_yaml
from zoo.specs.release import ReleaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What a release's contract was compared with.

    Attributes:
        note: in one line, for people.
        comparison: None when there was nothing to compare with, or it could not be read.
    """

    note: str
    comparison: Comparison | None = None

    def lines(self) -> list[str]:
        """For a plan, a line each."""
        if self.comparison is None:
            return [f"  contract   {self.note}"]
        table = [line for line in self.comparison.lines() if line.startswith("  ")]
        return [f"  contract   {self.note}", *(f"           {line}" for line in table)]

    def document(self) -> dict[str, Any]:
        """As plain data."""
        return {"note": self.note, "comparison": self.comparison.document() if self.comparison else None}


def foresee(source: Path, scratch: Path, *, place: Address | None, target: Path | None) -> None:
    """Says before minutes of checking what would be refused after them.

    Args:
        source: the release as its author has it.
        scratch: an empty or missing folder for downloads.
        place: on the Hub, or None.
        target: a local folder, or None.

    Raises:
        RefusedError: see `compare_with_hub`.
        HubError: ZH007 no access, ZH008 no answer.
    """
    remote = hub.read_remote(place.repo) if place else Remote()  # a missing login
    release = source / RELEASE_NAME
    if not release.is_file():
        return  # a library folder, or no release: what follows looks closer
    version = read_yaml(release, ReleaseSpec, code="ZM001").version
    if place is not None and place.tag(version) not in remote.tags:
        compare_with_hub(source, place, remote, scratch)
    elif target is not None and release_version(target) != version:
        compare_with_folder(source, target)


def compare_with_hub(stage: Path, place: Address, remote: Remote, scratch: Path) -> Compared:
    """Compares a staged release with what a repository's users have.

    Args:
        stage: the release.
        place: where it is to be published.
        remote: its state.
        scratch: an empty or missing folder for downloads.

    Raises:
        RefusedError: ZO200, ZO201, see `Comparison.check`; ZO203, the published contract cannot be read and
            the version does not allow for a break; ZO204, a published file is far too large.
        HubError: ZH007 no access, ZH008 no answer.
    """
    new = read_contract(stage, where="this release")
    label, commit = previous_revision(place, remote, new.version)
    if not commit:
        return Compared(note=f"nothing to compare with: {place} holds no release")
    where = f"{place}@{label} ({commit[:12]})"
    scratch.mkdir(parents=True, exist_ok=True)
    found = fetch_contract(place.repo, commit, scratch, folder=place.folder)
    if found is None:
        return Compared(note=f"nothing to compare with: {where} holds no release")
    return _compared(found, new, where)


def compare_with_folder(stage: Path, target: Path) -> Compared:
    """Compares a staged release with the one in a local folder.

    Raises:
        RefusedError: see `compare_with_hub`.
    """
    new = read_contract(stage, where="this release")
    if not target.is_dir() or not any(target.iterdir()):
        return Compared(note=f"nothing to compare with: {target} holds no release")
    return _compared(target, new, str(target))


def previous_revision(place: Address, remote: Remote, version: str) -> tuple[str, str]:
    """Which published revision a new version follows.

    Args:
        place: where in the repository.
        remote: a repository's state.
        version: the new one.

    Returns:
        Its name and commit: the highest tagged version below the new one, else `main`; empty when there is
        none.
    """
    new = Version.parse(version)
    earlier = [
        (known.order, tag)
        for tag in remote.tags
        if (known := Version.parse(place.version(tag))) and new and known.order < new.order
    ]
    if earlier:
        tag = max(earlier)[1]
        return tag, remote.tags[tag]
    return ("main", remote.head) if remote.head else ("", "")


def _compared(folder: Path, new: Contract, where: str) -> Compared:
    try:
        old = read_contract(folder, where=where)
    except NotFoundError:
        return Compared(note=f"nothing to compare with: {where} holds no release")
    except UsageError as error:
        return _unreadable(error, new, where, release_version(folder))
    comparison = Comparison.of(old, new)
    comparison.check()
    without = ", which had no io.yaml" if old.result is None else ""
    return Compared(note=f"compared with {where}{without}: {comparison.verdict}", comparison=comparison)


def _unreadable(error: UsageError, new: Contract, where: str, version: str) -> Compared:
    """A published contract that nobody can read may have promised anything: only a break is honest."""
    before, after = Version.parse(version), Version.parse(new.version)
    if before is None or after is None or not honours(before, after, "breaking"):
        raise RefusedError(
            f"the contract of {where} cannot be read, so it cannot be compared: {error.message}",
            code="ZO203",
            hint=f"set `version` in zoo.yaml to {demanded(before, 'breaking')} or higher"
            if before
            else "repair its files there, or publish somewhere else",
        )
    return Compared(note=f"not compared: the contract of {where} cannot be read ({error.message})")


def release_version(folder: Path) -> str:
    """The version of a release that may be broken otherwise; empty when it says none."""
    try:
        return read_yaml(folder / RELEASE_NAME, ReleaseSpec).version
    except (SpecError, NotFoundError):
        return ""
