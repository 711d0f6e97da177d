"""The rounds of an unfinished invention, a line each, so that a run that was killed need not begin anew."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Rounds:
    """Rounds that were finished, in memory and, with a folder, on disk."""

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        """Reads what an earlier run has left; of another invention nothing is taken.

        Args:
            folder: of one invention; None keeps nothing.
            identity: of the invention.
        """
        self._path = folder / "rounds.jsonl" if folder else None
        self._found: list[Mapping[str, Any]] = []
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        head = json.dumps(identity, sort_keys=True).encode() + b"\n"
        lines = self._path.read_bytes().splitlines(keepends=True) if self._path.is_file() else []
        whole = [line for line in lines if line.endswith(b"\n")]  # the last may have been cut
        if whole[:1] != [head]:
            whole = [head]
        self._path.write_bytes(b"".join(whole))
        self._found = [json.loads(line) for line in whole[1:]]

    def get(self, number: int) -> Mapping[str, Any] | None:
        """A round that was finished, counted from 0."""
        return self._found[number] if number < len(self._found) else None

    def put(self, found: Mapping[str, Any]) -> None:
        """Takes note of the next round."""
        self._found.append(found)
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(json.dumps(found, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
