r"""PEFT's `rank_pattern` and `alpha_pattern`: a stranger's regular expressions, matched as PEFT does.

PEFT matches `(.*\.)?(KEY)$` from the start of the module path and takes the first key that fits. A key with
repetition can take exponential time, so it is matched in a process of its own with a limit on CPU time;
ordinary keys, which are module names, are matched here.
Source: peft 0.21.2, utils/other.py, `get_pattern_key`.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

from zoo.errors import RefusedError

CPU_SECONDS = 2
MEMORY_BYTES = 1 << 30
_HARMLESS = re.compile(r"[\w.\\^$-]*")  # neither repetition nor choice: nothing to backtrack over

Value = TypeVar("Value")


def resolve_patterns(patterns: Mapping[str, Value], paths: Sequence[str], default: Value) -> dict[str, Value]:
    """The value that PEFT gives each module.

    Args:
        patterns: key to value, in the file's order.
        paths: module paths in the base model.
        default: for a module that no key fits.

    Returns:
        One value a path.

    Raises:
        RefusedError: ZV020, a key is not a regular expression, or takes too long to match.
    """
    chosen = _match(list(patterns), list(paths)) if patterns else [None] * len(paths)
    return {path: default if key is None else patterns[key] for path, key in zip(paths, chosen, strict=True)}


def _match(keys: list[str], paths: list[str]) -> list[str | None]:
    if all(_HARMLESS.fullmatch(key) for key in keys):
        try:
            return _first_keys(keys, paths)
        except re.error as error:
            raise _refused(f"is not a regular expression: {error}") from None
    request = json.dumps({"keys": keys, "paths": paths}).encode()
    command = [sys.executable, "-P", "-m", "zoo.converters.patterns"]
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, timeout=CPU_SECONDS + 20, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refused("takes too long to match") from None
    if done.returncode != 0:
        raise _refused(f"takes more than {CPU_SECONDS} s of CPU time to match")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise _refused(f"is not a regular expression: {answer['error']}")
    matched: list[str | None] = answer["keys"]
    return matched


def _first_keys(keys: Sequence[str], paths: Sequence[str]) -> list[str | None]:
    compiled = [(key, re.compile(rf"(.*\.)?({key})$")) for key in keys]
    return [next((key for key, pattern in compiled if pattern.match(path)), None) for path in paths]


def _refused(what: str) -> RefusedError:
    return RefusedError(
        f"a key of rank_pattern or alpha_pattern {what}",
        code="ZV020",
        hint="write module names or short patterns there, and save the adapter again",
    )


def _serve() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform.startswith("linux"):  # macOS refuses RLIMIT_AS
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer: dict[str, object] = {"keys": _first_keys(request["keys"], request["paths"])}
    except (re.error, OverflowError, RecursionError) as error:
        answer = {"error": str(error)[:200]}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    _serve()
