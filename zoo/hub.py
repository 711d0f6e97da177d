"""The Hugging Face Hub: the only module that talks to it, and the place where its errors become zoo's.

Publishing uses one commit with a parent, never the client's `upload_folder`, which splits a release over
several commits. No message carries a token.
Source: huggingface_hub 1.33.0 and 2.4.0, hf_api.py and errors.py; both were run against the tests' Hub.
"""

import errno
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import BaseMissingError, HubError, NotFoundError, RefusedError, UsageError, ZooError
from zoo.specs.release import HUB_ID

if TYPE_CHECKING:
    from huggingface_hub import HfApi

BASE_FILES = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "vocab*", "merges.txt", "*.jinja", "model*.safetensors", "model.safetensors.index.json",
)  # fmt: skip
LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may do this"
_SECRET = re.compile(r"hf_[A-Za-z0-9_]{4,}|(?i:bearer)\s+\S+|eyJ[\w-]{10,}\.[\w.-]+")


class UnavailableError(HubError):
    """The Hub did not answer, or not now; the same request may succeed later.

    Attributes:
        retry_after: seconds that the Hub asked to wait; 0 when it did not say.
    """

    retry_after: float = 0.0


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
        head: commit of `main`; empty when there is none.
        files: what that commit holds, by path.
        tags: commit by tag name.
    """

    exists: bool = False
    private: bool = False
    head: str = ""
    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def download_base(name: str, revision: str) -> tuple[str, Path]:
    """Downloads a base model's configuration, tokenizer, template and safetensors weights.

    A cached copy is used where the Hub cannot be reached.

    Args:
        name: `org/name`.
        revision: a branch, a tag or a commit; empty for the default branch.

    Returns:
        The commit that `revision` means, and the folder with its files.

    Raises:
        NotFoundError: there is no such model or revision.
        BaseMissingError: it cannot be had here and now: no network, no access.
    """
    what = f"the base model {name}{f' at {revision}' if revision else ''}"
    try:
        with _translated(f"download {what}"):
            api = _api()
            commit = api.resolve_revision(name, revision=revision or None).resolved
            folder = api.snapshot_download(name, revision=commit, allow_patterns=list(BASE_FILES))
    except (UsageError, BaseMissingError):
        raise
    except ZooError as error:
        hint = error.hint or "check the connection, or give --base a local folder"
        raise BaseMissingError(error.message, hint=hint, code=error.code) from None
    if not (Path(folder) / "config.json").is_file():
        raise BaseMissingError(f"{what} has no config.json", hint="name another --base")
    return commit, Path(folder)


def repository_url(repo: str) -> str:
    """Where people look at a repository."""
    return f"{_api().endpoint}/{repo}"


def read_remote(repo: str) -> Remote:
    """Reads a model repository's head, files and tags; one that is not there is no error.

    Raises:
        UsageError: `repo` is not `org/name`.
        HubError: ZH007 no access, ZH008 no answer.
    """
    if not re.fullmatch(HUB_ID, repo):
        raise UsageError(f"{repo!r} is not a repository's name", hint="write it as ORG/NAME")
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    with _translated(f"read {repo}"):
        api = _api()
        try:
            info = api.model_info(repo)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError as error:
            if error.response.status_code == 404:
                return Remote()
            raise
        head = info.sha or ""
        entries = api.list_repo_tree(repo, recursive=True, revision=head)
        files = {entry.path: _remote_file(entry) for entry in entries if isinstance(entry, RepoFile)}
        tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo).tags}
    return Remote(exists=True, private=bool(info.private), head=head, files=files, tags=tags)


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

    with _translated(f"read {path} of {repo}"), _no_bars():
        try:
            found = _api().hf_hub_download(repo, path, revision=commit, cache_dir=into)
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
    with _translated(f"read {repo} at {commit[:12]}"):
        found: Iterable[Any] = _api().get_paths_info(repo, list(paths), revision=commit)
    return {entry.path: entry.size for entry in found if hasattr(entry, "size")}


def check_card(card: str) -> None:
    """Asks the Hub whether it accepts a card's metadata; writes nothing.

    Raises:
        RefusedError: ZH005, it does not.
        HubError: ZH008, no answer.
    """
    from huggingface_hub import ModelCard

    with _translated("check the card"):
        try:
            ModelCard(card).validate()
        except ValueError as error:
            raise _card_refused(error) from None


def create_repository(repo: str, *, private: bool) -> None:
    """Makes a model repository; one that exists by now is fine.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with _translated(f"create {repo}"):
        _api().create_repo(repo, private=True if private else None, exist_ok=True)


def commit(
    repo: str, folder: Path, *, add: Iterable[str], delete: Iterable[str], message: str, parent: str
) -> str:
    """Commits changes onto `main`, all in one commit or none.

    Args:
        repo: `org/name`.
        folder: where the files to add are.
        add: their paths, in the folder and in the repository.
        delete: paths in the repository.
        message: the commit's first line.
        parent: the commit that `main` must still be at.

    Returns:
        The new commit.

    Raises:
        HubError: ZH003 `main` moved meanwhile, ZH007 no access, ZH008 no answer: the commit may have arrived.
        RefusedError: ZH005, the Hub rejects the card.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationAdd(path, str(folder / path)) for path in sorted(add)]
    operations += [CommitOperationDelete(path) for path in sorted(delete)]
    with _translated(f"commit to {repo}"), _no_bars():
        made = _api().create_commit(repo, operations, commit_message=message, parent_commit=parent)
    return str(made.oid)


def create_tag(repo: str, tag: str, commit: str) -> None:
    """Names a commit; a tag that is there already stays where it is.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with _translated(f"tag {repo}"):
        _api().create_tag(repo, tag=tag, revision=commit, exist_ok=True)


def download(repo: str, revision: str, into: Path) -> Path:
    """Downloads a whole revision into a fresh cache, taking nothing from any other.

    Args:
        repo: `org/name`.
        revision: a tag or a commit.
        into: an empty folder for the cache.

    Returns:
        The folder with the files.

    Raises:
        HubError: ZH007 no access, ZH008 no answer or a truncated one.
    """
    with _translated(f"download {repo} at {revision}"), _no_bars():
        return Path(_api().snapshot_download(repo, revision=revision, cache_dir=into))


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    from zoo import __version__

    return HfApi(library_name="alora-zoo", library_version=__version__)


def _remote_file(entry: Any) -> RemoteFile:
    sha256 = entry.lfs.sha256 if entry.lfs is not None else ""
    return RemoteFile(size_bytes=entry.size, git_sha1=entry.blob_id, sha256=sha256)


@contextmanager
def _no_bars() -> Iterator[None]:
    """The client's own progress bars off in the block: they would be drawn over ours."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    """Turns what the client raises into zoo's errors; `doing` completes "cannot …".

    The original is not chained: it holds the request, and with it the token.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        OfflineModeIsEnabled,
        OIDCError,
        RevisionNotFoundError,
        RevisionResolutionError,
        XetDownloadError,
    )
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # httpx2 since 2.0, lazily exported

    try:
        yield
    except ZooError:
        raise
    except RevisionNotFoundError as error:
        raise NotFoundError(f"cannot {doing}: no such revision", hint=_server_said(error)) from None
    except HfHubHTTPError as error:
        raise _from_status(doing, error) from None
    except OfflineModeIsEnabled:
        raise HubError(
            f"cannot {doing}: the client is in offline mode", hint="unset HF_HUB_OFFLINE"
        ) from None
    except OIDCError as error:
        raise HubError(f"cannot {doing}: {_clean(error)}", hint=LOGIN, code="ZH007") from None
    except (httpx.HTTPError, RevisionResolutionError, XetDownloadError, ConnectionError) as error:
        raise _unavailable(doing, error) from None
    except RuntimeError as error:  # the client wraps failed uploads of large files in it
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _from_status(doing, error.__cause__) from None
        raise _unavailable(doing, error.__cause__ or error) from None
    except ValueError as error:
        if "README.md" in str(error):
            raise _card_refused(error) from None
        raise
    except OSError as error:
        if error.errno not in (None, errno.ENOENT):
            raise  # a full disk, a missing permission: of this machine, not of the Hub
        raise _unavailable(doing, error) from None


def _from_status(doing: str, error: Any) -> ZooError:
    status: int = error.response.status_code
    said = _server_said(error)
    reason = f": {said}" if said else ""
    if status in (401, 403):
        return HubError(f"cannot {doing}: no access (HTTP {status}){reason}", hint=LOGIN, code="ZH007")
    if status == 404:
        return NotFoundError(f"cannot {doing}: not on the Hub{reason}", hint="check the name")
    if status == 412:
        return HubError(
            f"cannot {doing}: main moved while the release was being prepared",
            hint="look at what changed there, then run the same command again",
            code="ZH003",
        )
    if status == 408 or status == 429 or status >= 500:
        unavailable = UnavailableError(
            f"cannot {doing}: HTTP {status}{reason}", hint="run the same command again later", code="ZH008"
        )
        unavailable.retry_after = _retry_after(error)
        return unavailable
    if "README.md" in said or "metadata" in said:
        return _card_refused(said)
    return HubError(
        f"cannot {doing}: HTTP {status}{reason}", hint="see what the Hub says, and the status page"
    )


def _unavailable(doing: str, error: BaseException) -> UnavailableError:
    return UnavailableError(
        f"cannot {doing}: no answer from the Hub ({_clean(error) or type(error).__name__})",
        hint="check the connection and HF_ENDPOINT, then run the same command again",
        code="ZH008",
    )


def _card_refused(said: object) -> RefusedError:
    return RefusedError(
        f"the Hub rejects the card's metadata: {_clean(said)}",
        hint="correct zoo.yaml (license, languages, base id)",
        code="ZH005",
    )


def _server_said(error: Any) -> str:
    return _clean(getattr(error, "server_message", None) or "")


def _retry_after(error: Any) -> float:
    try:
        return max(0.0, float(error.response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def _clean(said: object) -> str:
    """One line of at most 300 characters without anything that looks like a token."""
    return _SECRET.sub("(secret)", " ".join(str(said).split()))[:300]
