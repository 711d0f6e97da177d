"""Where zoo keeps what it can make again, and small results that depend on nothing but their question."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from zoo import __version__

MAX_QUESTION_BYTES = 1_000_000
MAX_ANSWERS = 256


def cache_root() -> Path:
    """The cache folder: `$ZOO_CACHE`, else `$XDG_CACHE_HOME/zoo`, else `~/.cache/zoo`."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(chosen)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "zoo"


def remembered(kind: str, question: bytes, answer: Callable[[], list[str]]) -> list[str]:
    """The answer to a question, from the cache or from `answer`, which must be a pure function of it.

    Large questions are not kept, and of each kind only the newest 256. A cache that cannot be read or
    written changes nothing but the time taken.

    Args:
        kind: names the folder.
        question: everything the answer depends on, besides zoo's own version.
        answer: works it out; what it raises is not kept.
    """
    if len(question) > MAX_QUESTION_BYTES:
        return answer()
    folder = cache_root() / kind
    path = folder / f"{sha256(__version__.encode() + b'/' + question).hexdigest()}.json"
    try:
        kept = json.loads(path.read_bytes())
        if isinstance(kept, list) and all(isinstance(text, str) for text in kept):
            return kept
    except (OSError, ValueError):
        pass
    found = answer()
    with suppress(OSError):
        _keep(folder, path, found)
    return found


def _keep(folder: Path, path: Path, found: list[str]) -> None:
    from zoo.staging import write_file

    folder.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(found, ensure_ascii=False).encode())
    newest_first = sorted(folder.glob("*.json"), key=lambda entry: entry.stat().st_mtime, reverse=True)
    for old in newest_first[MAX_ANSWERS:]:
        old.unlink(missing_ok=True)
