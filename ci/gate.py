"""The gate: one verdict over the adapters of a library, made of their validation reports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import NotFoundError
from zoo.layouts import placements
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.report import Report
from zoo.validators.validate import validate

# A defect of ours hides the verdict, a no outranks an undecided: CI shows the most telling of them.
_WORST_FIRST = (4, 1, 3, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The reports of all adapters of one run."""

    reports: Sequence[Report]

    @property
    def exit_code(self) -> int:
        """The most telling exit code among the reports; 3 when there is none."""
        codes = {report.exit_code for report in self.reports}
        return next((code for code in _WORST_FIRST if code in codes), 3)


def adapters(paths: Sequence[Path]) -> list[Path]:
    """The folder of every adapter at or below the given paths, each once, in order.

    Raises:
        NotFoundError: a path does not exist or holds no adapter; a gate over nothing must not be green.
    """
    found: dict[Path, None] = {}
    for path in paths:
        below = placements(path)
        if not below:
            raise NotFoundError(f"{path} holds no adapter", hint="give folders that hold adapter_config.json")
        found.update((placement.folder, None) for placement in below)
    return list(found)


def gate(
    paths: Sequence[Path],
    *,
    base: str = "",
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Iterator[Report]:
    """Validates every adapter at or below the given paths and yields each report as it is ready.

    A broken adapter does not stop the others.

    Args:
        paths: adapter folders and library folders.
        base: what to resolve as base; empty takes the one each adapter names.
        device: torch device of the dynamic part.
        dtype: of the base weights.
        progress: told about long work.

    Raises:
        NotFoundError: see `adapters`.
    """
    folders = adapters(paths)
    for done, folder in enumerate(folders):
        progress("adapters", done=done, total=len(folders), note=folder.name)
        yield validate(folder, base=base, device=device, dtype=dtype)
    progress("adapters", done=len(folders), total=len(folders))
