"""Validation of one adapter folder from end to end."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.errors import ZooError
from zoo.models import BaseModel, Dtype, resolve, resolve_reference
from zoo.progress import Progress, silent
from zoo.provenance import folder_digest, package_versions
from zoo.report import Report, Result
from zoo.validators.check import Context
from zoo.validators.engine import run_checks

PACKAGES = ("alora-zoo", "torch", "transformers", "peft", "safetensors", "tokenizers", "huggingface_hub")


@dataclass(kw_only=True)
class Validation:
    """A validation under way: iterate it for results, then ask for the report.

    Attributes:
        subject: the path as the user gave it.
        context: the facts its checks look at.
    """

    subject: str
    context: Context

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        base: str = "",
        static: bool = False,
        device: str = "cpu",
        dtype: Dtype = "float32",
        progress: Progress = silent,
    ) -> "Validation":
        """Opens an adapter for validation; a base that cannot be had makes checks skipped, not an error.

        Args:
            path: an adapter folder, or a library folder that holds one adapter.
            base: what to resolve as base; empty takes the one that `zoo.yaml` or the config names.
            static: leave out everything that needs torch.
            device: torch device of the dynamic part.
            dtype: of the base weights in the dynamic part.
            progress: told about long work.

        Raises:
            NotFoundError: no adapter at `path`.
            UsageError: several adapters at `path`.
        """
        repo = AdapterRepo.open(path)
        found, missing = _base(repo, base)
        context = Context(
            repo=repo,
            base=found,
            base_missing=missing,
            static=static,
            device=device,
            dtype=dtype,
            progress=progress,
        )
        return cls(subject=str(path), context=context)

    def __iter__(self) -> Iterator[Result]:
        """Runs the checks and yields their results."""
        from zoo.validators.catalog import ALL_CHECKS

        return run_checks(self.context, ALL_CHECKS)

    def report(self, results: list[Result]) -> Report:
        """The report over results of this validation."""
        repo = self.context.repo
        return Report(
            subject=self.subject,
            digest=folder_digest(self.context.digests),
            results=results,
            environment={
                "python": platform.python_version(),
                "machine": platform.machine(),
                "device": self.context.device,
                "dtype": self.context.dtype,
                **package_versions(PACKAGES),
            },
            allowed_skips=_allowed_skips(repo),
        )

    def exit_code(self, report: Report) -> int:
        """The process exit code for a report of this validation.

        The report's own, with one exception: when only the static part was asked for, that the rest was not
        checked is no news; what the static part could not check still is.
        """
        from zoo.validators.catalog import STATIC_CHECKS

        if not self.context.static or report.status() != "incomplete":
            return report.exit_code
        asked_for = {check.code for check in STATIC_CHECKS}
        return replace(report, results=[r for r in report.results if r.code in asked_for]).exit_code


def validate(
    path: Path | str,
    *,
    base: str = "",
    static: bool = False,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Report:
    """Validates one adapter folder; see `Validation.open` for the arguments.

    Raises:
        NotFoundError: no adapter at `path`.
        UsageError: several adapters at `path`.
    """
    validation = Validation.open(
        Path(path), base=base, static=static, device=device, dtype=dtype, progress=progress
    )
    return validation.report(list(validation))


def _base(repo: AdapterRepo, wanted: str) -> tuple[BaseModel | None, str]:
    try:
        if wanted:
            return resolve(wanted), ""
        if repo.release:
            return resolve_reference(repo.release.base), ""
        if named := repo.config.base_model_name_or_path:
            return resolve(named, revision=repo.config.revision or ""), ""
    except ZooError as error:
        if wanted:
            raise
        return None, error.message
    return None, "neither --base nor the adapter names a base model"


def _allowed_skips(repo: AdapterRepo) -> dict[str, str]:
    try:
        return dict(repo.release.gate.allowed_skips) if repo.release else {}
    except ZooError:
        return {}
