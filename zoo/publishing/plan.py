"""What publishing would change, as data that can be printed before anything happens."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.adapter import LOCK_NAME
from zoo.errors import RefusedError
from zoo.hub import Remote, RemoteFile
from zoo.layouts import CONFIG_NAME
from zoo.provenance import sha256_file

if TYPE_CHECKING:
    from zoo.publishing.previous import Compared
    from zoo.publishing.stage import StagedRelease

Action = Literal["add", "change", "delete", "unchanged"]
KEPT = ".gitattributes"  # the Hub makes it and needs it; it is no part of a release


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happens to one file of the target.

    Attributes:
        path: relative to the release, with `/`.
        action: what happens.
        size_bytes: of the release's file; of the target's where it is deleted.
        sha256: of the release's file; empty where it is deleted.
    """

    path: str
    action: Action
    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """Everything that one publication does.

    Attributes:
        target: `org/name[/folder]` or a folder's path.
        version: the release's.
        tag: the name that the commit gets; empty for a folder.
        parent: the commit that it goes on top of; empty when there is none.
        message: the commit's.
        changes: every file, sorted by path.
        evidence_sha256: of the recorded validation report's JSON form.
        payload_sha256: one digest over the payload's files.
        new_repository: whether the repository is made first.
        published: the tag is there and names this very release: nothing is written.
        compared: its contract beside the one published before; None when it is published already.
        also: what is done beside the files, a line each.
    """

    target: str
    version: str
    tag: str = ""
    parent: str = ""
    message: str
    changes: tuple[Change, ...]
    evidence_sha256: str
    payload_sha256: str
    new_repository: bool = False
    published: bool = False
    compared: "Compared | None" = None
    also: tuple[str, ...] = ()

    def paths(self, *actions: Action) -> list[str]:
        """The paths to which one of `actions` happens."""
        return [change.path for change in self.changes if change.action in actions]

    @property
    def writes(self) -> bool:
        """Whether any file changes."""
        return not self.published and bool(self.paths("add", "change", "delete"))

    def lines(self) -> list[str]:
        """The plan for people, a line each."""
        onto = f", onto {self.parent[:12]}" if self.parent and not self.published else ""
        new = ", a new repository" if self.new_repository else ""
        head = f"{self.target}: version {self.version}{onto}{new}"
        files = [
            f"  {one.action:9}  {one.size_bytes:>13,}  {one.sha256[:12]:12}  {one.path}"
            for one in self.changes
        ]
        tag = [f"  tag        {self.tag}"] if self.tag and not self.published else []
        state = []
        if self.published:
            state = ["  already published; only verified"]
        elif not self.writes:
            state = ["  every file is there already"]
        digests = [
            f"  payload    sha256 {self.payload_sha256}",
            f"  evidence   sha256 {self.evidence_sha256}",
        ]
        contract = self.compared.lines() if self.compared else []
        return [head, *files, *tag, *state, *digests, *contract, *(f"  {line}" for line in self.also)]

    def document(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "target": self.target,
            "version": self.version,
            "tag": self.tag or None,
            "parent": self.parent or None,
            "message": self.message,
            "new_repository": self.new_repository,
            "already_published": self.published,
            "payload_sha256": self.payload_sha256,
            "evidence_sha256": self.evidence_sha256,
            "contract": self.compared.document() if self.compared else None,
            "also": list(self.also),
            "files": [
                {"path": c.path, "action": c.action, "bytes": c.size_bytes, "sha256": c.sha256 or None}
                for c in self.changes
            ],
        }


def compare(stage: Path, present: Mapping[str, RemoteFile]) -> tuple[Change, ...]:
    """What must happen to a target's files so that they become the stage's.

    Args:
        stage: the release.
        present: the target's files by path.
    """
    wanted = {path.relative_to(stage).as_posix(): path for path in stage.rglob("*") if path.is_file()}
    changes = [_change(name, path, present.get(name)) for name, path in wanted.items()]
    changes += [
        Change(path=name, action="delete", size_bytes=file.size_bytes)
        for name, file in present.items()
        if name not in wanted and name != KEPT
    ]
    return tuple(sorted(changes, key=lambda change: change.path))


def files_of(folder: Path) -> dict[str, RemoteFile]:
    """A local folder's files, in the form in which a repository's are known."""
    return {
        path.relative_to(folder).as_posix(): RemoteFile(
            size_bytes=path.stat().st_size, git_sha1="", sha256=sha256_file(path)
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def plan_release(
    staged: "StagedRelease",
    target: str,
    remote: Remote,
    *,
    published: bool = False,
    compared: "Compared | None" = None,
    also: tuple[str, ...] = (),
) -> ReleasePlan:
    """What publishing a staged release would do to a target; reads only.

    Args:
        staged: the release.
        target: `org/name[/folder]`, or a folder's path.
        remote: the target's state: a repository's, or a folder's files without a head.
        published: the tag is there and names this release.
        compared: its contract beside the one published before.
        also: what is done beside the files, a line each.

    Raises:
        RefusedError: ZH010, the target holds files that no release put there, or other releases.
    """
    changes = compare(staged.folder, remote.files)
    if published:  # nothing is written, so a card that was edited since stays as it is
        changes = tuple(replace(one, action="unchanged") for one in changes if one.action != "delete")
    plan = ReleasePlan(
        target=target,
        version=staged.spec.version,
        tag=staged.tag if staged.hub_id else "",
        parent=remote.head,
        message=f"Release {staged.place or staged.spec.name} {staged.spec.version}",
        changes=changes,
        evidence_sha256=staged.evidence_sha256,
        payload_sha256=staged.payload_sha256,
        new_repository=bool(staged.hub_id) and not remote.exists,
        published=published,
        compared=compared,
        also=also,
    )
    doomed = plan.paths("delete")
    others = [path for path in doomed if path.endswith((f"/{LOCK_NAME}", f"/{CONFIG_NAME}"))]
    if others or (doomed and LOCK_NAME not in remote.files):
        raise foreign_files(target, others or doomed)
    return plan


def foreign_files(target: str, paths: list[str]) -> RefusedError:
    """The refusal of a target that holds files which a publication would delete, and no release put there."""
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return RefusedError(
        f"{target} holds what no release put there: {', '.join(paths[:4])}{more}",
        code="ZH010",
        hint="name another target, or remove these files there first",
    )


def _change(name: str, path: Path, present: RemoteFile | None) -> Change:
    sha256 = sha256_file(path)
    action: Action = "add"
    if present is not None:
        same = sha256 == present.sha256 if present.sha256 else _git_sha1(path) == present.git_sha1
        action = "unchanged" if same else "change"
    return Change(path=name, action=action, size_bytes=path.stat().st_size, sha256=sha256)


def _git_sha1(path: Path) -> str:
    """The name that git gives to a content. Source: git, `git hash-object`."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
