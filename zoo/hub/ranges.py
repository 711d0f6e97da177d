"""Parts of large files on the Hub, by range request: a tensor of a shard without the shard."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from zoo.errors import NotFoundError
from zoo.hub.client import open_api
from zoo.hub.errors import UnavailableError, translated


@dataclass(frozen=True, slots=True, kw_only=True)
class RangedFile:
    """One file of a repository at a commit, read where and as far as asked.

    Attributes:
        repo: `org/name`.
        path: in the repository.
        commit: full hash.
        size_bytes: of the whole file.
    """

    repo: str
    path: str
    commit: str
    size_bytes: int
    _opened: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def read(self, begin: int, end: int) -> bytes:
        """Bytes `begin` to `end`, exclusive, in one request.

        Raises:
            HubError: ZH007 no access, ZH008 no answer or a truncated one.
        """
        if begin >= end:
            return b""
        doing = f"read {self.path} of {self.repo}"
        with translated(doing):
            stream = self._stream()
            stream.seek(begin)
            content: bytes = stream.read(end - begin)
        if len(content) != end - begin:
            raise UnavailableError(
                f"cannot {doing}: {len(content):,} of {end - begin:,} bytes came",
                hint="run the same command again later",
                code="ZH008",
            )
        return content

    def _stream(self) -> Any:
        """The client's file object without read-ahead, opened once: opening asks for the file's place."""
        if "stream" not in self._opened:
            from huggingface_hub import HfFileSystem

            files = HfFileSystem(endpoint=open_api().endpoint)
            where = f"{self.repo}@{self.commit}/{self.path}"
            self._opened["stream"] = files.open(where, "rb", cache_type="none")
        return self._opened["stream"]


def ranged_files(repo: str, revision: str, patterns: Iterable[str]) -> tuple[str, list[RangedFile]]:
    """The files of a revision that match any of these patterns.

    Args:
        repo: `org/name`.
        revision: a branch, a tag or a commit; empty for the default branch.
        patterns: shell patterns for paths.

    Returns:
        The commit that `revision` means, and the files in path order.

    Raises:
        NotFoundError: there is no such repository or revision.
        HubError: ZH007 no access, ZH008 no answer.
    """
    wanted = list(patterns)
    with translated(f"read {repo}{f' at {revision}' if revision else ''}"):
        info = open_api().model_info(repo, revision=revision or None, files_metadata=True)
    commit = info.sha or ""
    found = [
        RangedFile(repo=repo, path=file.rfilename, commit=commit, size_bytes=file.size or 0)
        for file in sorted(info.siblings or (), key=lambda file: file.rfilename)
        if any(fnmatch(file.rfilename, pattern) for pattern in wanted)
    ]
    if not commit:
        raise NotFoundError(f"{repo} has no commit", hint="check the name")
    return commit, found


def cached(file: RangedFile) -> str:
    """Where the client's cache holds the whole file; empty when it does not."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repo, file.path, revision=file.commit)
    return found if isinstance(found, str) else ""
