"""Places on the Hub: `org/name[/folder][@revision]`.

A repository holds one adapter at its top, or several, each in a folder of its own with versions of its own.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.errors import NotFoundError, UsageError
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

    @classmethod
    def of_source(cls, text: str) -> "Address | None":
        """Reads what may be a folder here or a place on the Hub; None where it is a path.

        `ORG/NAME@TAG` is the Hub's even where a folder is called so: a checkout must not stand in for a
        release. Without a revision a folder that is there comes first.
        """
        found = None if text.startswith((".", "~", "/")) else cls.parse(text)
        return found if found is None or found.revision or not Path(text).exists() else None

    @classmethod
    def target(cls, text: str) -> "Address":
        """Reads where something is to be published: an address without a revision.

        Raises:
            UsageError: it is no such address.
        """
        found = cls.parse(text)
        if found is None or found.revision:
            raise UsageError(
                f"{text!r} is not a repository's name", hint="write it as ORG/NAME or ORG/NAME/FOLDER"
            )
        return found

    def tag(self, version: str) -> str:
        """The tag of a version of what is here.

        `v1.2.0` at the top of a repository. A repository of several adapters has versions of each, so that
        the folder is part of the tag: `relevance-granite-4.1-3b-alora-v1.2.0`.
        """
        return f"{self.folder.replace('/', '-')}-v{version}" if self.folder else f"v{version}"

    def version(self, tag: str) -> str:
        """What a tag has behind the mark of this place; empty where it is another's."""
        mark = self.tag("")
        return tag[len(mark) :] if tag.startswith(mark) else ""

    def within(self, path: str) -> str:
        """The path in the repository of a file that is here."""
        return f"{self.folder}/{path}" if self.folder else path

    def view(self, remote: Remote) -> Remote:
        """What is here of a repository: its files below the folder, by their path from there."""
        if not self.folder:
            return remote
        inside = f"{self.folder}/"
        files = {path[len(inside) :]: file for path, file in remote.files.items() if path.startswith(inside)}
        return replace(remote, files=files)

    def __str__(self) -> str:
        """As on the command line."""
        place = f"{self.repo}/{self.folder}" if self.folder else self.repo
        return f"{place}@{self.revision}" if self.revision else place


def tag_of(hub_id: str, version: str) -> str:
    """The tag of a version of what is published at `org/name[/folder]`; empty is a local folder."""
    return Address.target(hub_id).tag(version) if hub_id else f"v{version}"


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
