"""The gate: one verdict over the adapters of a library, made of their validation reports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.report import Report, worst_exit_code
from zoo.validators.library import adapter_folders, validations
from zoo.validators.validate import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The reports of all adapters of one run."""

    reports: Sequence[Report]

    @property
    def exit_code(self) -> int:
        """The most telling exit code among the reports; 3 when there is none."""
        return worst_exit_code(report.exit_code for report in self.reports)


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
        NotFoundError: a path does not exist or holds no adapter; a gate over nothing must not be green.
    """
    settings = Settings(base=base, device=device, dtype=dtype)
    for validation in validations(adapter_folders(paths), settings, progress=progress):
        yield validation.report(list(validation))
