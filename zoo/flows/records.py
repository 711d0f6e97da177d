"""What a scoring run has found so far, a line each in a file, so that a run that was cut off goes on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from zoo.errors import UsageError
from zoo.flows.scoring import State

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a flow did with one row.

    Attributes:
        row: the row's digest.
        variant: `flow`, or a control's name.
        state: answered, abstained or failed.
        response: the text; None when it failed or nothing was said.
        faithfulness: what a step of the flow found; None when it comes from the data, or is unknown.
        error: why it failed, with its code.
    """

    row: str
    variant: str
    state: State
    response: str | None = None
    faithfulness: float | None = None
    error: str = ""


class Records:
    """The entries of a run, kept in memory and, when there is a file, appended to it as they come."""

    def __init__(self) -> None:
        """Begins without a file."""
        self._found: dict[tuple[str, str], Entry] = {}
        self._stream: TextIO | None = None
        self.resumed = 0

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, str]) -> Self:
        """Opens or begins a file of entries.

        A last line that was cut off is dropped, and its row is run again.

        Args:
            path: the file.
            settings: what the run depends on: digests of the flow and its adapters, base model, dtype.

        Raises:
            UsageError: ZO312, the file is of another run, or no file of entries.
        """
        found = cls()
        if path.is_file() and path.stat().st_size:
            found._read(path, settings)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps({"format": FORMAT, "settings": dict(settings)}) + "\n", encoding="utf-8"
            )
        found._stream = path.open("a", encoding="utf-8")
        return found

    def get(self, row: str, variant: str) -> Entry | None:
        """The entry of a row under a variant."""
        return self._found.get((row, variant))

    def add(self, entry: Entry) -> None:
        """Keeps an entry, on disk too."""
        self._found[entry.row, entry.variant] = entry
        if self._stream is not None:
            self._stream.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._stream is not None:
            self._stream.close()

    def _read(self, path: Path, settings: Mapping[str, str]) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        first, *lines = whole.splitlines() or [b""]
        self._same_run(_object(first), settings, path)
        for line in lines:
            try:
                entry = Entry(**_object(line))
            except TypeError:
                raise _foreign(path, "holds a line that is no entry") from None
            self._found[entry.row, entry.variant] = entry
        self.resumed = len(self._found)
        if len(whole) < len(content):
            with path.open("r+b") as stream:
                stream.truncate(len(whole))

    def _same_run(self, header: Mapping[str, Any], settings: Mapping[str, str], path: Path) -> None:
        if header.get("format") != FORMAT or not isinstance(header.get("settings"), dict):
            raise _foreign(path, "is no file of entries of a scoring run")
        before = header["settings"]
        if changed := sorted(k for k in {*before, *settings} if before.get(k) != settings.get(k)):
            raise _foreign(path, f"is of a run with another {', '.join(changed)}")


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _foreign(path: Path, what: str) -> UsageError:
    return UsageError(f"{path} {what}", hint="give --records another file, or remove this one", code="ZO312")
