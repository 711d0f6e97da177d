"""The gate: one verdict over the adapters of a library, made of their reports and a policy."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.ci.changed import changed_folders
from zoo.ci.judgement import Judge
from zoo.errors import UsageError
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.report import Report, worst_exit_code
from zoo.specs.document import read_yaml
from zoo.specs.policy import POLICY_NAME, Policy
from zoo.validators.bases import Bases
from zoo.validators.library import adapter_folders, validations
from zoo.validators.validate import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The reports of all adapters of one run.

    Attributes:
        reports: one an adapter.
        unchanged: nothing was looked at because nothing had changed: that is a verdict, not a lack of one.
    """

    reports: Sequence[Report]
    unchanged: bool = False

    @property
    def exit_code(self) -> int:
        """The most telling exit code among the reports; 3 when there is none, unless nothing changed."""
        if self.unchanged and not self.reports:
            return 0
        return worst_exit_code(report.exit_code for report in self.reports)


def chosen(paths: Sequence[Path], *, since: str = "", policy: Path | None = None) -> list[Path]:
    """The adapter folders that a gate looks at.

    Args:
        paths: adapter folders and library folders.
        since: only those that changed since this commit; empty is all of them.
        policy: the file that was named as policy; a change of it concerns everybody.

    Raises:
        NotFoundError: a path does not exist or holds no adapter; a gate over nothing must not be green.
        UsageError: there is no path, or `since` is no commit.
        UndecidedError: git does not say what changed.
    """
    if not paths:
        raise UsageError("no adapter was named", hint="zoo gate PATH..., or zoo gate --library DIR")
    folders = adapter_folders(paths)
    return changed_folders(folders, since, policy=policy) if since else folders


def read_policy(path: Path | None) -> Policy:
    """The policy in a file; else in `zoo-gate.yaml` of the working folder; else one that demands nothing.

    The data of its suites are then named from the working folder.

    Raises:
        NotFoundError: the file that was named is not there.
        SpecError: ZG005, it breaks its specification.
    """
    if path is None and not Path(POLICY_NAME).is_file():
        return Policy()
    place = path or Path(POLICY_NAME)
    policy = read_yaml(place, Policy, code="ZG005")
    suites = [one.model_copy(update={"data": str(place.parent / one.data)}) for one in policy.suites]
    return policy.model_copy(update={"suites": suites})


def gate(
    folders: Sequence[Path],
    *,
    policy: Policy | None = None,
    today: datetime.date | None = None,
    settings: Settings | None = None,
    base: str = "",
    device: str = "cpu",
    dtype: Dtype = "float32",
    bases: Bases | None = None,
    progress: Progress = silent,
) -> Iterator[Report]:
    """Validates adapters, applies the policy, and yields each report as it is ready.

    A broken adapter does not stop the others.

    Args:
        folders: of `chosen`.
        policy: of `read_policy`.
        today: on which allowances may have run out; the day in UTC when None.
        settings: of the checks; made of the next three when None.
        base: what to resolve as base; empty takes the one each adapter names.
        device: torch device of the dynamic part.
        dtype: of the base weights.
        bases: what an earlier gate loaded; nothing when None.
        progress: told about long work.
    """
    day = today or datetime.datetime.now(datetime.UTC).date()
    demanded = policy or Policy()
    judge = Judge(policy=demanded, today=day)
    given = settings or Settings(base=base, device=device, dtype=dtype)
    engines = tuple(dict.fromkeys((*given.engines, *demanded.engines)))
    chosen_settings = replace(given, engines=engines)
    for validation in validations(folders, chosen_settings, bases=bases, progress=progress):
        report = validation.report(list(validation))
        context = validation.context
        yield judge.judge(report, AdapterRepo.open(context.repo.root), context)
