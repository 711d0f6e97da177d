"""A policy applied to one adapter's report: what it adds to the results, and what it lets be skipped."""

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from zoo.adapter import AdapterRepo
from zoo.ci.promises import promise_checks
from zoo.ci.published import Once, Published
from zoo.ci.recorded import bounds, recorded_behaviour
from zoo.ci.suites import Bench, suite_checks
from zoo.errors import NotFoundError, UndecidedError, ZooError
from zoo.report import (
    Finding,
    Flagged,
    NotApplicable,
    Outcome,
    Passed,
    Report,
    Result,
    Severity,
    Skipped,
)
from zoo.specs.policy import AllowedSkip, Policy
from zoo.validators.check import Context
from zoo.validators.engine import did_not_pass, run_checks

_OWN = "ZG"  # codes of the gate itself
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

    def judge(self, report: Report, repo: AdapterRepo, context: Context | None = None) -> Report:
        """The report with the policy's own results, and with what it allows to be skipped.

        Args:
            report: of the adapter's checks.
            repo: the adapter.
            context: of those checks, on whose base the suites are asked; None leaves that unchecked.
        """
        name = _name(repo)
        own = [one for one in self.policy.allowed_skips if _is_for(one.adapters, name)]
        # what the policy demands is not for the author to leave out
        authors = {code: why for code, why in report.allowed_skips.items() if not code.startswith(_OWN)}
        authors = authors if self.policy.author_skips == "allow" else {}
        allowed = {**authors, **{one.code: one.reason for one in own if one.expires >= self.today}}
        demanded = list(self._demanded(report, repo, name, context))
        seen = replace(report, results=[*report.results, *demanded])
        first = [
            _result("ZG001", "Every required check passed", _required(seen, self.policy.required)),
            _result("ZG002", "No allowance of the policy has run out", _current(own, seen, self.today)),
        ]
        return replace(report, results=[*report.results, *first, *demanded], allowed_skips=allowed)

    def _demanded(
        self, report: Report, repo: AdapterRepo, name: str, context: Context | None
    ) -> Iterator[Result]:
        """ZG003 to ZG011, as far as the policy asks for them."""
        policy = self.policy
        published = self._published(name) if policy.regression else None
        suites = [suite for suite in policy.suites if _is_for(suite.adapters, name)]
        if policy.evaluation:
            yield _result("ZG003", "The measured behaviour is within bounds", bounds(repo, policy.evaluation))
        if policy.regression and published:
            said = self._regression(repo, published, policy.regression.accuracy, asked=bool(suites))
            yield _result("ZG004", "Nothing became worse than what is published", said)
        checks = [*promise_checks(policy, published)]
        for suite in suites:
            bench = Bench(
                suite=suite,
                name=name,
                regression=policy.regression,
                published=published or _none_published,
            )
            checks += suite_checks(bench)
        facts = context or Context(repo=repo, base_missing="the gate was given no base")
        failed = {result.code for result in report.results if did_not_pass(result.outcome)}
        yield from run_checks(facts, checks, before=failed)
        if policy.suites and not suites:
            none = NotApplicable(reason="no suite of the policy is for this adapter")
            yield _result("ZG007", "Its answers are good enough", none)

    def _published(self, name: str) -> Callable[[], Published]:
        """Finds the published version, once."""
        demanded = self.policy.regression
        place = demanded.published.replace("{name}", name) if demanded else ""
        return Once(lambda: self.published(place))

    def _regression(
        self, repo: AdapterRepo, published: Callable[[], Published], allowed_drop: float, *, asked: bool
    ) -> Outcome:
        if asked:
            return NotApplicable(reason="both versions are asked the same samples instead: ZG008")
        try:
            before = published()
        except NotFoundError as error:
            return NotApplicable(reason=f"nothing is published before this: {error.message}")
        except UndecidedError as error:
            return Skipped(reason=error.message, hint=error.hint)
        except ZooError as error:
            return Flagged(findings=[Finding(message=error.message, fix=error.hint)])
        return before.compared_with(recorded_behaviour(repo), allowed_drop=allowed_drop)


def _none_published() -> Published:
    raise NotFoundError("the policy compares with nothing")


def _is_for(globs: list[str], name: str) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def _required(report: Report, codes: list[str]) -> Outcome:
    if not codes:
        return NotApplicable(reason="the policy requires no check by name")
    seen: dict[str, Outcome] = {}
    for result in report.results:
        if _passed(seen.get(result.code, Passed())):  # of several under one code the one that did not pass
            seen[result.code] = result.outcome
    wrong = [code for code in codes if not _passed(seen.get(code))]
    findings = [
        Finding(message=f"{code} {_how(seen.get(code))}", fix=f"zoo explain {code}") for code in wrong
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
                    fix="make the check run, or renew the allowance with a reason"
                    if needed
                    else "take it out: nothing needs it",
                )
            )
    return Flagged(findings=findings) if findings else Passed(measured={"allowances": len(own)})


def _name(repo: AdapterRepo) -> str:
    try:
        return repo.release.name if repo.release else repo.name
    except ZooError:  # ZM001 says it
        return repo.name


def _result(code: str, title: str, outcome: Outcome) -> Result:
    return Result(code=code, title=title, outcome=outcome)
