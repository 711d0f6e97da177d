"""Discussions and pull requests: the conversation and the merge."""

import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.hub.objects import Commit, File

Event = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Discussion:
    """A discussion, or a pull request if it has a `base`.

    Attributes:
        status: `draft`, `open`, `closed` or `merged`.
        base: Oid of the commit that the pull request started from; None for a plain discussion.
        merge_commit: Oid of the commit on `main` that the merge made.
        events: What happened, oldest first, each in the form in which the client reads it.
    """

    num: int
    title: str
    author: str
    created_at: str
    status: str
    base: str | None = None
    merge_commit: str | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def is_pull_request(self) -> bool:
        """Whether it carries commits."""
        return self.base is not None

    @property
    def ref(self) -> str:
        """The name under which the pull request's commits can be read and written."""
        return f"refs/pr/{self.num}"

    def comment(self, text: str, author: str, date: str) -> Event:
        """Say something."""
        latest = {"raw": text, "html": text, "updatedAt": date, "author": {"name": author}}
        data = {"edited": False, "hidden": False, "latest": latest, "history": []}
        return self._happened("comment", data, author, date)

    def edit_comment(self, event: Event, text: str, date: str) -> None:
        """Replace a comment's text and keep the old one in its history."""
        data = event["data"]
        data["history"].append(data["latest"])
        data["latest"] = data["latest"] | {"raw": text, "html": text, "updatedAt": date}
        data["edited"] = True

    def rename(self, title: str, author: str, date: str) -> Event:
        """Give it another title."""
        event = self._happened("title-change", {"from": self.title, "to": title}, author, date)
        self.title = title
        return event

    def change_status(self, status: str, author: str, date: str) -> Event:
        """Open, close or mark it as merged."""
        self.status = status
        return self._happened("status-change", {"status": status}, author, date)

    def record_commit(self, commit: Commit) -> Event:
        """Note that a commit was put on the pull request."""
        return self._happened(
            "commit", {"subject": commit.title, "oid": commit.oid}, commit.author, commit.date
        )

    def _happened(self, kind: str, data: dict[str, Any], author: str, date: str) -> Event:
        event = {
            "id": f"{self.num:08x}{len(self.events):016x}",
            "type": kind,
            "createdAt": date,
            "author": {"name": author},
            "data": data,
        }
        self.events.append(event)
        return event


def changes(base: Commit, head: Commit) -> dict[str, File | None]:
    """Return what differs from `base` to `head`: the new file by path, None where it was deleted."""
    paths = sorted({*base.files, *head.files})
    return {path: head.files.get(path) for path in paths if base.files.get(path) != head.files.get(path)}


def conflicts(base: Commit, ours: Commit, theirs: Commit) -> list[str]:
    """Return the paths that both sides changed since `base`, each in its own way."""
    in_ours, in_theirs = changes(base, ours), changes(base, theirs)
    return [path for path in in_ours if path in in_theirs and in_ours[path] != in_theirs[path]]


def merged(base: Commit, ours: Commit, theirs: Commit) -> dict[str, File]:
    """Return the files of `ours` with the changes of `theirs` since `base` applied."""
    files: dict[str, File | None] = {**ours.files, **changes(base, theirs)}
    return {path: file for path, file in files.items() if file is not None}


def diff(base: Commit, head: Commit, read: Callable[[File], bytes]) -> str:
    """Return what changed from `base` to `head` in the form of `git diff`; LFS files appear by name only."""
    return "".join(
        itertools.chain.from_iterable(
            _file_diff(path, base.files, head.files, read) for path in changes(base, head)
        )
    )


def _file_diff(
    path: str, before: Mapping[str, File], after: Mapping[str, File], read: Callable[[File], bytes]
) -> Iterator[str]:
    yield f"diff --git a/{path} b/{path}\n"
    sides = before.get(path), after.get(path)
    if any(file is not None and file.lfs for file in sides):
        yield f"Binary files a/{path} and b/{path} differ\n"
        return
    old, new = ([] if file is None else read(file).decode(errors="replace").splitlines() for file in sides)
    for line in difflib.unified_diff(old, new, f"a/{path}", f"b/{path}", lineterm=""):
        yield line + "\n"
