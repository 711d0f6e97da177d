"""The gate: one verdict over the adapters of a library, made of their reports and a policy."""

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.ci.changed import changed_folders
from zoo.ci.judgement import Judge
from zoo.errors import UsageError
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.provenance import sha256_file
from zoo.report import Report, worst_exit_code
from zoo.specs.document import read_yaml
from zoo.specs.policy import POLICY_NAME, Policy, Suite
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


def chosen(
    paths: Sequence[Path], *, since: str = "", policy: Path | None = None, suites: Sequence[Suite] = ()
) -> list[Path]:
    """The adapter folders that a gate looks at.

    Args:
        paths: adapter folders and library folders.
        since: only those that changed since this commit; empty is all of them.
        policy: the file that was named as policy; a change of it concerns everybody.
        suites: of the policy; so does a sample that is not the one it binds, whoever changed it and when.

    Raises:
        NotFoundError: a path does not exist or holds no adapter; a gate over nothing must not be green.
        UsageError: there is no path, or `since` is no commit.
        UndecidedError: git does not say what changed.
    """
    if not paths:
        raise UsageError("no adapter was named", hint="zoo gate PATH..., or zoo gate --library DIR")
    folders = adapter_folders(paths)
    if not since or not all(map(_is_bound, suites)):
        return folders
    return changed_folders(folders, since, policy=policy)


def _is_bound(suite: Suite) -> bool:
    data = Path(suite.data)
    return data.is_file() and sha256_file(data) == suite.sha256


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
        yield judge.judge(report, context.repo, context)


def reviewer(
    policy: Path | None, *, base: str = "", device: str = "cpu", progress: Progress = silent
) -> Callable[[Path], Report]:
    """What gates one adapter under a policy; arguments as of `read_policy` and `gate`.

    Raises:
        NotFoundError: the policy is not there.
        SpecError: ZG005, it breaks its specification.
    """
    demanded = read_policy(policy)
    settings = Settings(base=base, device=device)
    return lambda folder: next(gate([folder], policy=demanded, settings=settings, progress=progress))
