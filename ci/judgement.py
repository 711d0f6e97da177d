"""A policy applied to one adapter's report: what it adds to the results, and what it lets be skipped."""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from zoo.adapter import LOCK_NAME, AdapterRepo
from zoo.ci.published import Published
from zoo.errors import NotFoundError, UndecidedError, ZooError
from zoo.report import (
    Finding,
    Flagged,
    Location,
    NotApplicable,
    Outcome,
    Passed,
    Report,
    Result,
    Severity,
    Skipped,
)
from zoo.specs.lock import BehaviourRecord
from zoo.specs.policy import POLICY_NAME, AllowedSkip, Evaluation, Policy

_POLICY = Location(file=POLICY_NAME)
_MEASURE = "measure it on held-out data: zoo convert --recover, or zoo train with --eval-data"
Find = Callable[[str], Published]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Applies one policy.

    Attributes:
        policy: what is demanded.
        today: on which allowances may have run out.
        published: finds what is published of an adapter, by its repository.
    """

    policy: Policy
    today: datetime.date
    published: Find = Published.read

    def judge(self, report: Report, repo: AdapterRepo | None) -> Report:
        """The report with the policy's own results, and with what it allows to be skipped.

        Args:
            report: of the adapter's checks.
            repo: the adapter; None when its folder cannot even be opened.
        """
        name = _name(repo, report)
        own = [one for one in self.policy.allowed_skips if any(fnmatchcase(name, g) for g in one.adapters)]
        authors = report.allowed_skips if self.policy.author_skips == "allow" else {}
        allowed = {**authors, **{one.code: one.reason for one in own if one.expires >= self.today}}
        results = [*report.results, *self._results(report, repo, name, own)]
        return replace(report, results=results, allowed_skips=allowed)

    def _results(
        self, report: Report, repo: AdapterRepo | None, name: str, own: list[AllowedSkip]
    ) -> Iterator[Result]:
        yield _result("ZG001", "Every required check passed", _required(report, self.policy.required))
        yield _result("ZG002", "No allowance of the policy has run out", _current(own, report, self.today))
        if repo is not None and (bounds := self.policy.evaluation):
            yield _result("ZG003", "The measured behaviour is within bounds", _bounds(repo, bounds))
        if repo is not None and self.policy.regression:
            yield _result(
                "ZG004", "Nothing became worse than what is published", self._regression(repo, name)
            )

    def _regression(self, repo: AdapterRepo, name: str) -> Outcome:
        demanded = self.policy.regression
        if demanded is None:
            return NotApplicable(reason="the policy compares with nothing")
        try:
            before = self.published(demanded.published.replace("{name}", name))
        except NotFoundError as error:
            return NotApplicable(reason=f"nothing is published before this: {error.message}")
        except UndecidedError as error:
            return Skipped(reason=error.message, hint=error.hint)
        except ZooError as error:
            return Flagged(findings=[Finding(message=error.message, fix=error.hint)])
        return before.compared_with(_behaviour(repo), allowed_drop=demanded.accuracy)


def _required(report: Report, codes: list[str]) -> Outcome:
    if not codes:
        return NotApplicable(reason="the policy requires no check by name")
    seen: dict[str, Outcome] = {}
    for result in report.results:
        if _passed(seen.get(result.code, Passed())):  # of several under one code the one that did not pass
            seen[result.code] = result.outcome
    wrong = [code for code in codes if not _passed(seen.get(code))]
    findings = [
        Finding(message=f"{code} {_how(seen.get(code))}", location=_POLICY, fix=f"zoo explain {code}")
        for code in wrong
    ]
    return Flagged(findings=findings) if findings else Passed(measured={"required": len(codes)})


def _passed(outcome: Outcome | None) -> bool:
    match outcome:
        case Passed():
            return True
        case Flagged() as flagged:
            return flagged.severity is not Severity.ERROR
        case _:
            return False


def _how(outcome: Outcome | None) -> str:
    match outcome:
        case None:
            return "did not run"
        case Skipped(reason=reason):
            return f"was not checked: {reason}"
        case NotApplicable(reason=reason):
            return f"had nothing to look at: {reason}"
        case Flagged():
            return "found errors"
        case _:
            return "crashed"


def _current(own: list[AllowedSkip], report: Report, today: datetime.date) -> Outcome:
    """Only what is needed is complained about: an allowance of a check that ran by now is a remark."""
    if not own:
        return NotApplicable(reason="the policy allows nothing to be skipped here")
    skipped = {result.code for result in report.results if isinstance(result.outcome, Skipped)}
    renewed = {one.code for one in own if one.expires >= today}
    findings = []
    for one in own:
        if one.expires < today:
            needed = one.code in skipped - renewed
            findings.append(
                Finding(
                    message=f"the allowance for {one.code} ran out on {one.expires} ({one.reason})",
                    severity=Severity.ERROR if needed else Severity.WARNING,
                    location=_POLICY,
                    fix="make the check run, or renew the allowance with a reason"
                    if needed
                    else "take it out: nothing needs it",
                )
            )
    return Flagged(findings=findings) if findings else Passed(measured={"allowances": len(own)})


def _bounds(repo: AdapterRepo, bounds: Evaluation) -> Outcome:
    behaviour = _behaviour(repo)
    own = behaviour.own_accuracy
    if own is None:
        return Skipped(reason="nobody measured its answers on held-out samples", hint=_MEASURE)
    if lacking := _lacking(repo, behaviour, bounds):
        return Skipped(reason=lacking, hint=_MEASURE)
    measured = {"accuracy": own, "samples": behaviour.samples}
    wanted: list[tuple[str, float | None, float | None]] = [
        ("held-out samples", behaviour.samples, bounds.samples),
        ("accuracy", own, bounds.accuracy),
    ]
    if bounds.above_trivial is not None and behaviour.trivial is not None:
        wanted.append(
            ("accuracy above the commonest answer's", own - behaviour.trivial, bounds.above_trivial)
        )
    agreement = behaviour.agreement.get(behaviour.own_column)
    if agreement is not None:
        wanted.append(("agreement with the source LoRA", agreement, bounds.agreement))
    place = Location(file=LOCK_NAME, pointer="behaviour")
    findings = [
        Finding(message=f"{what}: {value:.4g}, and {least:.4g} is demanded", location=place, fix=_MEASURE)
        for what, value, least in wanted
        if least is not None and value is not None and not value >= least
    ]
    return Flagged(findings=findings, measured=measured) if findings else Passed(measured=measured)


def _lacking(repo: AdapterRepo, behaviour: BehaviourRecord, bounds: Evaluation) -> str:
    """Which demanded figure is not recorded; empty where all are. What is not there is not within bounds."""
    lock = repo.lock
    if lock and lock.on_invented and (bounds.accuracy is not None or bounds.above_trivial is not None):
        return "it was measured on invented requests alone: that accuracy is agreement with the source LoRA"
    if bounds.above_trivial is not None and behaviour.trivial is None:
        return "the accuracy of the commonest answer is not recorded"
    converted = lock is not None and lock.conversion is not None
    if bounds.agreement is not None and converted and behaviour.own_column not in behaviour.agreement:
        return "its agreement with the source LoRA is not recorded"
    return ""


def _behaviour(repo: AdapterRepo) -> BehaviourRecord:
    try:
        return repo.lock.behaviour if repo.lock else BehaviourRecord()
    except ZooError:  # ZL001 says it
        return BehaviourRecord()


def _name(repo: AdapterRepo | None, report: Report) -> str:
    try:
        release = repo.release if repo else None
    except ZooError:  # ZM001 says it
        release = None
    return release.name if release else repo.name if repo else report.subject.rstrip("/").rpartition("/")[2]


def _result(code: str, title: str, outcome: Outcome) -> Result:
    return Result(code=code, title=title, outcome=outcome)
