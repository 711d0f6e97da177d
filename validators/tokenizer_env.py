"""Other Python environments: what their tokenizers make of the same texts."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from zoo.errors import UndecidedError

WORKER = Path(__file__).with_name("tokenizer_worker.py")
SECONDS = 180  # wall clock; the worker limits its CPU time itself
_HINT = "give the path of a Python interpreter whose environment has tokenizers or transformers"


class _Library(BaseModel):
    model_config = ConfigDict(extra="forbid")

    missing: bool = False
    version: str = ""
    error: str = ""
    ids: list[list[int]] = []


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    python: str
    tokenizers: _Library
    transformers: _Library


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenisation:
    """What one library of one environment made of the texts.

    Attributes:
        interpreter: as the user named it.
        library: `tokenizers X` or `transformers X`, with its version.
        ids: token ids of each text; empty when it failed.
        error: why it failed, or empty.
    """

    interpreter: str
    library: str
    ids: Sequence[Sequence[int]]
    error: str


def tokenise_in(interpreter: str, folder: Path, texts: Sequence[str]) -> list[Tokenisation]:
    """Tokenises texts with the libraries of another environment, isolated and offline.

    Args:
        interpreter: path of its Python interpreter; it is run.
        folder: the base model's, with `tokenizer.json`.
        texts: what to tokenise, special tokens parsed and none added.

    Returns:
        One entry for each of `tokenizers` and `transformers` that is installed there.

    Raises:
        UndecidedError: the interpreter does not run or does not answer, or has neither library.
    """
    answer = _answer(interpreter, {"folder": str(folder), "texts": list(texts)})
    found = []
    for name in ("tokenizers", "transformers"):
        library: _Library = getattr(answer, name)
        if library.missing:
            continue
        complete = not library.error and len(library.ids) == len(texts)
        found.append(
            Tokenisation(
                interpreter=interpreter,
                library=f"{name} {library.version}".rstrip(),
                ids=library.ids if complete else [],
                error="" if complete else library.error or "answered for other texts than asked",
            )
        )
    if not found:
        raise UndecidedError(f"{interpreter} has neither tokenizers nor transformers", hint=_HINT)
    return found


def _answer(interpreter: str, request: dict[str, Any]) -> _Answer:
    with tempfile.TemporaryDirectory(prefix="zoo-tokenizers-") as home:
        try:
            done = subprocess.run(
                [interpreter, "-I", str(WORKER)],
                input=json.dumps(request).encode(),
                capture_output=True,
                timeout=SECONDS,
                check=False,
                cwd=home,
                env=_environment(home),
            )
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise UndecidedError(f"{interpreter} does not run: {reason}", hint=_HINT) from None
        except subprocess.TimeoutExpired:
            raise UndecidedError(f"{interpreter} gave no answer in {SECONDS} s", hint=_HINT) from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise UndecidedError(
            f"{interpreter} ended with {done.returncode}" + (f": {last}" if last else ""), hint=_HINT
        )
    try:
        return _Answer.model_validate_json(done.stdout)
    except ValidationError:
        raise UndecidedError(f"{interpreter} answered what cannot be read", hint=_HINT) from None


def _environment(home: str) -> dict[str, str]:
    """Nothing of ours, access tokens least of all; and no network for the libraries."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    return {**kept, **offline, **quiet, "HOME": home, "HF_HOME": home}
