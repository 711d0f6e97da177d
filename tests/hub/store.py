"""Everything the Hub knows: accounts, repositories, contents. In memory, mirrored to a state file."""

import fnmatch
import json
import re
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.hub.blobs import BlobStore, write_atomically
from tests.hub.discussion import Discussion
from tests.hub.job import Job, Machine, idle
from tests.hub.objects import Commit, File, lfs_file, regular_file
from tests.hub.repository import MAIN, Repository
from tests.hub.wire import Account, HubError, repository_not_found
from tests.hub.xet import XetStore

_LARGE_FILES = "bin ckpt gz h5 model msgpack npy npz onnx parquet pkl pt pth safetensors tar tgz zip zst"
GIT_ATTRIBUTES = "".join(
    f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in _LARGE_FILES.split()
)
LARGEST_REGULAR_FILE = 10 * 1024 * 1024

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_STATE_FORMAT = 1


class Store:
    """The Hub's memory.

    Routes work on it under `lock`. Tests may also use it directly, to prepare a repository, to play somebody
    else who commits meanwhile, and to see what was really published, without going through the client that is
    under test.

    Attributes:
        accounts: Token to account.
        trusted: Identity token of a CI job to the repository it may publish to (trusted publishers).
        blobs: Contents by sha256.
        collections: Collections by slug, each as it goes over the wire; not in the state file.
        xet: Where Xet clients put their chunks.
        jobs: Jobs by id.
        machine: What runs them.
        secret: Key that signs upload links.
        lock: Held while a request is handled.
    """

    def __init__(self, folder: Path, accounts: Mapping[str, Account]) -> None:
        """Use `folder`, and read the state that an earlier server left there."""
        self.accounts = dict(accounts)
        self.trusted: dict[str, str] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, Job] = {}
        self.machine: Machine = idle
        self.blobs = BlobStore(folder / "blobs")
        self.xet = XetStore(folder / "content")
        self.secret = secrets.token_bytes(32)
        self.lock = threading.RLock()
        self._state_file = folder / "state.json"
        self._repositories: dict[str, Repository] = {}
        if self._state_file.exists():
            self._load()

    def repositories(self) -> list[Repository]:
        """Return all repositories, in order of their ids."""
        return [self._repositories[key] for key in sorted(self._repositories)]

    def repository(self, repo_id: str) -> Repository:
        """Return a repository whoever may see it. Ids are compared without case, as the Hub does.

        Raises:
            KeyError: There is none.
        """
        return self._repositories[repo_id.lower()]

    def visible_repository(self, repo_id: str, account: Account | None) -> Repository:
        """Return a repository as far as `account` may know of it.

        Raises:
            HubError: 404, or 401 without a token, if there is none or it is private.
        """
        repository = self._repositories.get(repo_id.lower())
        if repository is None or (repository.private and not _may_see(repository, account)):
            raise repository_not_found(account)
        return repository

    def readable_repository(self, repo_id: str, account: Account | None) -> Repository:
        """Return a repository whose files `account` may read: of a gated one only its members may.

        Raises:
            HubError: as `visible_repository`; 403 `GatedRepo`, or 401 without a token.
        """
        repository = self.visible_repository(repo_id, account)
        if repository.gated and not _may_see(repository, account):
            status = HTTPStatus.FORBIDDEN if account else HTTPStatus.UNAUTHORIZED
            raise HubError(
                status, f"Access to model {repo_id} is restricted. Ask for access.", code="GatedRepo"
            )
        return repository

    def create(self, repo_id: str, *, private: bool = False) -> Repository:
        """Make a repository with the commit that every new one has: `.gitattributes`, nothing else.

        Raises:
            HubError: 409 if it exists, 400 if it is no possible id.
        """
        if not _REPO_ID.fullmatch(repo_id) or ".." in repo_id or "--" in repo_id:
            raise HubError(HTTPStatus.BAD_REQUEST, f"Invalid repository name: {repo_id}")
        if repo_id.lower() in self._repositories:
            raise HubError(HTTPStatus.CONFLICT, "You already created this model repo")
        with self.lock:
            repository = Repository(id=repo_id, private=private)
            files = {".gitattributes": self.add_content(".gitattributes", GIT_ATTRIBUTES.encode())}
            repository.add_commit(MAIN, files, title="initial commit", author="system")
            self._repositories[repo_id.lower()] = repository
            self.save()
        return repository

    def delete(self, repo_id: str) -> None:
        """Forget a repository."""
        with self.lock:
            del self._repositories[repo_id.lower()]
            self.save()

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes | None],
        *,
        title: str = "Change by somebody else",
        revision: str = "main",
        author: str = "somebody-else",
    ) -> str:
        """Commit directly, past HTTP: write these contents (None deletes) and return the new commit's oid."""
        with self.lock:
            repository = self.repository(repo_id)
            ref = repository.branch_ref(revision)
            listing = dict(repository.resolve(ref).files)
            for path, content in files.items():
                if content is None:
                    del listing[path]
                else:
                    listing[path] = self.add_content(path, content)
            commit = repository.add_commit(ref, listing, title=title, author=author)
            self.save()
        return commit.oid

    def head(self, repo_id: str, revision: str = "main") -> str:
        """Return the oid of the commit that a revision means."""
        return self.repository(repo_id).resolve(revision).oid

    def contents(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Return what is published: every file of a revision with its content, `.gitattributes` included."""
        files = self.repository(repo_id).resolve(revision).files
        return {path: self.blobs.read(file.sha256) for path, file in files.items()}

    def tags(self, repo_id: str) -> dict[str, str]:
        """Return tag name to commit oid."""
        refs = self.repository(repo_id).refs
        return {
            name.removeprefix("refs/tags/"): oid
            for name, oid in refs.items()
            if name.startswith("refs/tags/")
        }

    def add_content(self, path: str, content: bytes) -> File:
        """Store a content and describe the file that it becomes at `path` (default `.gitattributes`)."""
        sha256 = self.blobs.add(content)
        if is_lfs(path, len(content), GIT_ATTRIBUTES):
            return lfs_file(sha256, len(content))
        return regular_file(content)

    def save(self) -> None:
        """Write the state file: complete or not at all."""
        state = {
            "format": _STATE_FORMAT,
            "repositories": [asdict(repository) for repository in self.repositories()],
        }
        write_atomically(self._state_file, json.dumps(state).encode())

    def _load(self) -> None:
        state = json.loads(self._state_file.read_bytes())
        if state["format"] != _STATE_FORMAT:
            message = f"{self._state_file} has format {state['format']}; this server reads {_STATE_FORMAT}"
            raise ValueError(message)
        for item in state["repositories"]:
            repository = _repository_from_json(item)
            self._repositories[repository.id.lower()] = repository


def _may_see(repository: Repository, account: Account | None) -> bool:
    """Return whether somebody is a member of a repository's namespace, or may write to it."""
    return account is not None and (
        repository.namespace in (account.name, *account.orgs) or account.may_write_to(repository.id)
    )


def is_lfs(path: str, size: int, attributes: str) -> bool:
    """Return whether a file is kept outside git: `.gitattributes` names it, or it is larger than 10 MiB.

    The Hub also looks at the content's first bytes; its rule for that is not public and is left out here.
    """
    name = path.rpartition("/")[2]
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line.split()]
    return size > LARGEST_REGULAR_FILE or any(
        fnmatch.fnmatchcase(path if "/" in pattern else name, pattern) for pattern in patterns
    )


def _repository_from_json(item: dict[str, Any]) -> Repository:
    commits = [
        Commit(**commit | {"files": {path: File(**file) for path, file in commit["files"].items()}})
        for commit in item["commits"].values()
    ]
    return Repository(
        **item
        | {
            "commits": {commit.oid: commit for commit in commits},
            "discussions": [Discussion(**discussion) for discussion in item["discussions"]],
        }
    )
