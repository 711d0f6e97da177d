"""One repository: its commits and the names that point at them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus

from tests.hub.discussion import Discussion
from tests.hub.objects import Commit, File, make_commit
from tests.hub.wire import HubError, revision_not_found

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"
PULL_REQUESTS = "refs/pr/"
MAIN = "refs/heads/main"

_SHORTEST_PREFIX = 7
_REF_NAME = re.compile(r"(?!.*(\.\.|//|\.lock$|/$|\.$))[A-Za-z0-9][A-Za-z0-9._/+-]*")


def now() -> str:
    """Return the present moment as the client parses it: UTC, ISO 8601, with milliseconds and a `Z`."""
    return datetime.now(tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True, kw_only=True)
class Repository:
    """A model repository.

    Attributes:
        id: `namespace/name`.
        gated: `auto`, `manual`, or empty: whether strangers must ask for access.
        refs: Full name (`refs/heads/main`, `refs/tags/v1.0.0`, `refs/pr/1`) to commit oid. A tag never moves.
        commits: Every commit ever made here, by oid; nothing is collected.
        discussions: Discussions and pull requests; number `n` is at index `n - 1`.
    """

    id: str
    private: bool = False
    gated: str = ""
    created_at: str = field(default_factory=now)
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    discussions: list[Discussion] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """The user or organisation that owns it."""
        return self.id.partition("/")[0]

    def resolve(self, revision: str) -> Commit:
        """Return the commit that a branch, tag, pull request, full ref, oid or prefix of an oid means.

        Raises:
            HubError: 404 `RevisionNotFound`.
        """
        for name in (revision, BRANCHES + revision, TAGS + revision):
            if name in self.refs:
                return self.commits[self.refs[name]]
        found = [
            oid for oid in self.commits if len(revision) >= _SHORTEST_PREFIX and oid.startswith(revision)
        ]
        if len(found) != 1:
            raise revision_not_found(revision)
        return self.commits[found[0]]

    def branch_ref(self, revision: str) -> str:
        """Return the full name of the branch or pull request that a commit on `revision` would move.

        Raises:
            HubError: 404 if there is no such revision, 400 if it is one that cannot move (a tag, an oid).
        """
        for name in (revision, BRANCHES + revision):
            if name in self.refs and name.startswith((BRANCHES, PULL_REQUESTS)):
                return name
        self.resolve(revision)
        raise HubError(HTTPStatus.BAD_REQUEST, f"Invalid reference for a branch: {revision}")

    def history(self, commit: Commit) -> Iterator[Commit]:
        """Yield a commit and its ancestors, newest first."""
        oid: str | None = commit.oid
        while oid is not None:
            commit = self.commits[oid]
            yield commit
            oid = commit.parent

    def add_commit(
        self, ref: str, files: Mapping[str, File], *, title: str, description: str = "", author: str
    ) -> Commit:
        """Put a commit with exactly these files on top of `ref`, which is made if it is not there."""
        commit = make_commit(
            files, parent=self.refs.get(ref), title=title, description=description, author=author, date=now()
        )
        self.commits[commit.oid] = commit
        self.refs[ref] = commit.oid
        return commit

    def create_ref(self, ref: str, commit: Commit) -> None:
        """Give a commit a new name.

        Raises:
            HubError: 400 if it is no possible name, 409 if the name is taken.
        """
        short = ref.removeprefix(BRANCHES).removeprefix(TAGS)
        if short.startswith("refs/") or not _REF_NAME.fullmatch(short):
            raise HubError(HTTPStatus.BAD_REQUEST, f"Invalid reference name: {short}")
        if ref in self.refs:
            raise HubError(HTTPStatus.CONFLICT, f"Reference {ref} already exists")
        self.refs[ref] = commit.oid

    def delete_ref(self, ref: str) -> None:
        """Take a name away.

        Raises:
            HubError: 403 for `main`, 404 `RevisionNotFound` if there is no such name.
        """
        if ref == MAIN:
            raise HubError(HTTPStatus.FORBIDDEN, f"Cannot delete {ref}")
        if self.refs.pop(ref, None) is None:
            raise revision_not_found(ref.removeprefix(BRANCHES).removeprefix(TAGS))

    def discussion(self, number: str) -> Discussion:
        """Return discussion or pull request `number`, counted from 1.

        Raises:
            HubError: 404 if there is none.
        """
        if not number.isdigit() or not 1 <= int(number) <= len(self.discussions):
            raise HubError(HTTPStatus.NOT_FOUND, f"There is no discussion {number}")
        return self.discussions[int(number) - 1]

    def open_discussion(
        self, title: str, description: str, author: str, *, base: Commit | None = None, draft: bool = False
    ) -> Discussion:
        """Open a discussion, or, with `base`, a pull request whose ref starts at that commit."""
        discussion = Discussion(
            num=len(self.discussions) + 1,
            title=title,
            author=author,
            created_at=now(),
            status="draft" if draft else "open",
            base=base.oid if base else None,
        )
        self.discussions.append(discussion)
        if base is not None:
            self.refs[discussion.ref] = base.oid
        if description:
            discussion.comment(description, author, now())
        return discussion
