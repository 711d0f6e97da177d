"""Downloads: base models, adapters, whole revisions."""

from pathlib import Path

from zoo.errors import BaseMissingError, UsageError, ZooError
from zoo.hub.client import no_bars, open_api
from zoo.hub.errors import translated

BASE_FILES = (
    "config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "vocab*", "merges.txt", "*.jinja", "model*.safetensors", "model.safetensors.index.json",
    "README.md",  # states the licence
)  # fmt: skip


def download_base(name: str, revision: str, *, weights: bool = True) -> tuple[str, Path]:
    """Downloads a base model's configuration, tokenizer, template and safetensors weights.

    A cached copy is used where the Hub cannot be reached.

    Args:
        name: `org/name`.
        revision: a branch, a tag or a commit; empty for the default branch.
        weights: whether the weights are fetched as well; a cached copy of them is there either way.

    Returns:
        The commit that `revision` means, and the folder with its files.

    Raises:
        NotFoundError: there is no such model or revision.
        BaseMissingError: it cannot be had here and now: no network, no access.
    """
    what = f"the base model {name}{f' at {revision}' if revision else ''}"
    try:
        with translated(f"download {what}"):
            api = open_api()
            commit = api.resolve_revision(name, revision=revision or None).resolved
            wanted = [pattern for pattern in BASE_FILES if weights or not pattern.endswith(".safetensors")]
            folder = api.snapshot_download(name, revision=commit, allow_patterns=wanted)
    except (UsageError, BaseMissingError):
        raise
    except ZooError as error:
        hint = error.hint or "check the connection, or give --base a local folder"
        raise BaseMissingError(error.message, hint=hint, code=error.code) from None
    if not (Path(folder) / "config.json").is_file():
        raise BaseMissingError(f"{what} has no config.json", hint="name another --base")
    return commit, Path(folder)


def download(repo: str, revision: str, into: Path, *, below: str = "") -> Path:
    """Downloads a whole revision, or a folder of it, into a fresh cache, taking nothing from any other.

    Args:
        repo: `org/name`.
        revision: a tag or a commit.
        into: an empty folder for the cache.
        below: the folder in the repository that is wanted, with `/`; empty is all of it.

    Returns:
        The folder with the revision's files.

    Raises:
        HubError: ZH007 no access, ZH008 no answer or a truncated one.
    """
    wanted = [f"{below}/*"] if below else None
    with translated(f"download {repo} at {revision}"), no_bars():
        api = open_api()
        return Path(api.snapshot_download(repo, revision=revision, cache_dir=into, allow_patterns=wanted))
