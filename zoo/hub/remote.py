"""A model repository as it is at one moment: head, files, tags, and small files of it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import UsageError
from zoo.hub.client import no_bars, open_api
from zoo.hub.errors import translated
from zoo.specs.release import HUB_ID

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        size_bytes: its size.
        git_sha1: the git blob's name.
        sha256: of the content where the Hub knows it (large files), else empty.
    """

    size_bytes: int
    git_sha1: str
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A model repository as it is at one moment.

    Attributes:
        exists: whether there is one.
        private: whether only its members see it.
        gated: `auto` or `manual` where people must ask for access; else empty.
        head: commit of `main`; empty when there is none.
        files: what that commit holds, by path.
        tags: commit by tag name.
    """

    exists: bool = False
    private: bool = False
    gated: str = ""
    head: str = ""
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def repository_url(repo: str) -> str:
    """Where people look at a repository."""
    return f"{open_api().endpoint}/{repo}"


def read_remote(repo: str) -> Remote:
    """Reads a model repository's head, files and tags; one that is not there is no error.

    Raises:
        UsageError: `repo` is not `org/name`.
        HubError: ZH007 no access, ZH008 no answer.
    """
    _check_name(repo)
    from huggingface_hub.hf_api import RepoFile

    with translated(f"read {repo}"):
        api = open_api()
        info = _found(lambda: api.model_info(repo))
        if info is None:
            return Remote()
        head = info.sha or ""
        entries = api.list_repo_tree(repo, recursive=True, revision=head)
        files = {entry.path: _remote_file(entry) for entry in entries if isinstance(entry, RepoFile)}
        tags = _tags(api.list_repo_refs(repo))
    return Remote(
        exists=True,
        private=bool(info.private),
        gated=info.gated or "",
        head=head,
        files=files,
        tags=tags,
    )


def read_tags(repo: str) -> dict[str, str]:
    """Commit by tag name of a model repository, without its files; none where there is no repository.

    Raises:
        UsageError: `repo` is not `org/name`.
        HubError: ZH007 no access, ZH008 no answer.
    """
    _check_name(repo)
    with translated(f"read {repo}"):
        refs = _found(lambda: open_api().list_repo_refs(repo))
    return _tags(refs) if refs is not None else {}


def read_file(repo: str, path: str, commit: str, into: Path) -> bytes | None:
    """Reads one small file of a repository at a commit, or None where the commit has none.

    Args:
        repo: `org/name`.
        path: in the repository.
        commit: full hash.
        into: an empty or scratch folder for the download.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    with translated(f"read {path} of {repo}"), no_bars():
        try:
            found = open_api().hf_hub_download(repo, path, revision=commit, cache_dir=into)
        except LocalEntryNotFoundError:  # it is an EntryNotFoundError too, but says that nobody answered
            raise
        except EntryNotFoundError:
            return None
        return Path(found).read_bytes()


def sizes(repo: str, paths: Iterable[str], commit: str) -> dict[str, int]:
    """Size in bytes of each of these files that a commit holds.

    Raises:
        NotFoundError: there is no such repository or commit.
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"read {repo} at {commit[:12]}"):
        found: Iterable[Any] = open_api().get_paths_info(repo, list(paths), revision=commit)
    return {entry.path: entry.size for entry in found if hasattr(entry, "size")}


def _remote_file(entry: Any) -> RemoteFile:
    sha256 = entry.lfs.sha256 if entry.lfs is not None else ""
    return RemoteFile(size_bytes=entry.size, git_sha1=entry.blob_id, sha256=sha256)


def _check_name(repo: str) -> None:
    if not re.fullmatch(HUB_ID, repo):
        raise UsageError(f"{repo!r} is not a repository's name", hint="write it as ORG/NAME")


def _found(ask: Callable[[], Answer]) -> Answer | None:
    """What a repository answers; None where there is none. One that is gated is there."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return ask()
    except GatedRepoError:
        raise
    except RepositoryNotFoundError as error:
        if error.response.status_code == 404:
            return None
        raise


def _tags(refs: Any) -> dict[str, str]:
    return {tag.name: tag.target_commit for tag in refs.tags}
