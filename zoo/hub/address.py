"""Places on the Hub: `org/name[/folder][@revision]`."""

import re
from dataclasses import dataclass

from zoo.errors import NotFoundError
from zoo.hub.remote import Remote

_ADDRESS = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)((?:/[\w][\w.-]*)*)(?:@([\w][\w./-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A place on the Hub: `org/name[/folder][@revision]`.

    Attributes:
        repo: `org/name`.
        folder: in the repository, with `/`; empty for its top.
        revision: a tag, `main` or a commit; empty for `main`.
    """

    repo: str
    folder: str = ""
    revision: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address | None":
        """Reads an address; None where the text is none."""
        found = _ADDRESS.fullmatch(text)
        if found is None:
            return None
        return cls(repo=found[1], folder=found[2].strip("/"), revision=found[3] or "")

    def __str__(self) -> str:
        """As on the command line."""
        place = f"{self.repo}/{self.folder}" if self.folder else self.repo
        return f"{place}@{self.revision}" if self.revision else place


def commit_of(remote: Remote, repo: str, revision: str) -> str:
    """The commit that a revision names.

    Args:
        remote: the repository's state.
        repo: its name, for messages.
        revision: a tag, `main` or a full commit; empty for `main`.

    Raises:
        NotFoundError: it is none of them.
    """
    if revision in ("", "main"):
        return remote.head
    if _COMMIT.fullmatch(revision):
        return revision
    if revision in remote.tags:
        return remote.tags[revision]
    known = ", ".join(sorted(remote.tags)) or "none"
    hint = f"give main, a full commit, or a tag: {known}"
    raise NotFoundError(f"{repo} has no tag {revision}", hint=hint)
