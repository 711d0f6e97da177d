"""Tokenises texts with whatever tokenizers another Python environment has; run as a script, never imported.

One JSON request comes on stdin, one JSON answer goes to stdout. The interpreter is another environment's: it
may be older than ours and has nothing of zoo, so only the standard library is imported at the top. A library
that is missing or fails is an answer, not an exit code.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

CPU_SECONDS = 90
MEMORY_BYTES = 8 << 30
Request = dict[str, Any]
Tokenise = Callable[[Request], list[list[int]]]


def main() -> None:
    """Answers one request: `folder` of the base and `texts`."""
    _limit()
    answer_to, sys.stdout = sys.stdout, sys.stderr  # libraries print; the answer stays alone
    request = json.load(sys.stdin)
    answer: dict[str, Any] = {"python": sys.version.split()[0]}
    for name, tokenise in (("tokenizers", _tokenizers), ("transformers", _transformers)):
        answer[name] = _tried(name, tokenise, request)
    json.dump(answer, answer_to)


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform.startswith("linux"):  # macOS refuses RLIMIT_AS
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _tried(name: str, tokenise: Tokenise, request: Request) -> dict[str, Any]:
    try:
        module = __import__(name)
    except ImportError:
        return {"missing": True}
    version = str(getattr(module, "__version__", "")) or version_of(name)
    try:
        return {"version": version, "ids": tokenise(request)}
    except Exception as error:  # another version of a library may raise whatever it likes
        return {"version": version, "error": f"{type(error).__name__}: {error}"[:300]}


def version_of(name: str) -> str:
    """The installed version of a package, or nothing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _tokenizers(request: Request) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.path.join(request["folder"], "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in request["texts"]]


def _transformers(request: Request) -> list[list[int]]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(
        request["folder"], local_files_only=True, trust_remote_code=False
    )
    return [tokenizer.encode(text, add_special_tokens=False) for text in request["texts"]]


if __name__ == "__main__":
    # A tokenizer needs no torch: without it transformers starts in a third of the time and of the memory.
    sys.modules["torch"] = None  # type: ignore[assignment]
    main()
