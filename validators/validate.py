"""Validation of one adapter folder from end to end."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.errors import ZooError
from zoo.models import BaseModel, Dtype
from zoo.progress import Progress, silent
from zoo.provenance import folder_digest, package_versions
from zoo.report import Report, Result
from zoo.validators.bases import Bases
from zoo.validators.check import Check, Context, required_by
from zoo.validators.engine import run_checks
from zoo.validators.project import is_project, open_repo, project_checks

PACKAGES = ("alora-zoo", "torch", "transformers", "peft", "safetensors", "tokenizers", "huggingface_hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What to check, and with what; the same for every adapter of a run.

    Attributes:
        base: what to resolve as base; empty takes the one that `zoo.yaml` or the config names.
        static: leave out everything that needs torch.
        device: torch device of the dynamic part.
        dtype: of the base weights in the dynamic part.
        attention: transformers' attention implementation; empty takes its default.
        prompts: how many prompts the dynamic part runs on.
        replay: only compare with the conformance vectors that came with the adapter.
        engines: names of the engines to try the adapter in, besides PEFT.
        engine_options: settings of engines by name.
        tokenizer_envs: Python interpreters of other environments whose tokenizers are to agree.
    """

    base: str = ""
    static: bool = False
    device: str = "cpu"
    dtype: Dtype = "float32"
    attention: str = ""
    prompts: int = 5
    replay: bool = False
    engines: tuple[str, ...] = ()
    engine_options: Mapping[str, str] = field(default_factory=dict)
    tokenizer_envs: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Validation:
    """A validation under way: iterate it for results, ask for the report, close it.

    Attributes:
        subject: the path as the user gave it.
        context: the facts its checks look at.
        checks: what runs, in order.
    """

    subject: str
    context: Context
    checks: tuple[Check, ...]

    @classmethod
    def open(
        cls,
        path: Path,
        settings: Settings | None = None,
        *,
        bases: Bases | None = None,
        progress: Progress = silent,
    ) -> "Validation":
        """Opens an adapter for validation; a base that cannot be had makes checks skipped, not an error.

        Args:
            path: an adapter folder, or a library folder that holds one adapter; for the static checks also a
                project without one.
            settings: the defaults when None.
            bases: shared by several validations; its own when None.
            progress: told about long work.

        Raises:
            NotFoundError: no adapter at `path`.
            UsageError: several adapters at `path`, or an engine of a name that zoo does not know.
        """
        chosen = settings or Settings()
        repo = open_repo(path, static=chosen.static)
        shared = bases or Bases()
        found, missing = _base(repo, chosen.base, shared)
        context = Context(
            repo=repo,
            base=found,
            base_missing=missing,
            static=chosen.static,
            device=chosen.device,
            dtype=chosen.dtype,
            attention=chosen.attention,
            prompts_at_most=chosen.prompts,
            bases=shared,
            replay=chosen.replay,
            engines=chosen.engines,
            engine_options=chosen.engine_options,
            tokenizer_envs=chosen.tokenizer_envs,
            progress=progress,
        )
        checks = _checks(chosen)
        checks = project_checks(checks) if is_project(repo.root) else checks
        return cls(subject=str(path), context=context, checks=checks)

    def __iter__(self) -> Iterator[Result]:
        """Runs the checks and yields their results."""
        return run_checks(self.context, self.checks)

    def close(self) -> None:
        """Drops the adapter's models."""
        self.context.close()

    def report(self, results: list[Result]) -> Report:
        """The report over results of this validation."""
        repo = self.context.repo
        return Report(
            subject=self.subject,
            digest=_digest(self.context),
            results=results,
            environment={
                "python": platform.python_version(),
                "machine": platform.machine(),
                "device": self.context.device,
                "dtype": self.context.dtype,
                **({"attention": self.context.attention} if self.context.attention else {}),
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
    """Validates one adapter folder; `Settings` says what the arguments mean, `Validation` takes more.

    Raises:
        NotFoundError: no adapter at `path`.
        UsageError: several adapters at `path`.
    """
    settings = Settings(base=base, static=static, device=device, dtype=dtype)
    validation = Validation.open(Path(path), settings, progress=progress)
    return validation.report(list(validation))


def _checks(settings: Settings) -> tuple[Check, ...]:
    """Every check and those of the engines asked for; or, for a replay, what it and its requirements are."""
    from zoo.validators.catalog import ALL_CHECKS

    if settings.replay:
        from zoo.validators.conformance.replay_checks import REPLAYED

        return required_by(ALL_CHECKS, REPLAYED)
    if settings.engines:
        from zoo.validators.conformance.engines.checks import engine_checks

        return (*ALL_CHECKS, *engine_checks(settings.engines))
    return ALL_CHECKS


def _base(repo: AdapterRepo, wanted: str, bases: Bases) -> tuple[BaseModel | None, str]:
    try:
        if wanted:
            return bases.named(wanted), ""
        if repo.release:
            return bases.referred(repo.release.base), ""
        if named := repo.config.base_model_name_or_path:
            return bases.stated(named, revision=repo.config.revision or ""), ""
    except ZooError as error:
        if wanted:
            raise
        return None, error.message
    return None, "neither --base nor the adapter names a base model"


def _digest(context: Context) -> str:
    """Of the files; empty where they cannot be read, or are more than a release has, which ZF004 says."""
    try:
        return folder_digest(context.digests)
    except (ZooError, OSError):
        return ""


def _allowed_skips(repo: AdapterRepo) -> dict[str, str]:
    try:
        return dict(repo.release.gate.allowed_skips) if repo.release else {}
    except ZooError:
        return {}
