"""Runs checks one after another and yields each result as soon as it is known."""

import time
import traceback
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

from zoo.errors import UndecidedError, UsageError, VerdictError
from zoo.limits import limited
from zoo.report import Crashed, Finding, Flagged, NotApplicable, Outcome, Passed, Result, Severity, Skipped
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.redaction import redact

SECONDS = 60.0
MEMORY = 2 << 30  # bytes


def run_checks(
    context: Context, checks: Iterable[Check], *, before: Collection[str] = ()
) -> Iterator[Result]:
    """Runs checks in the given order, which must put a check behind those it requires.

    Args:
        context: the facts.
        checks: what to run.
        before: codes of checks that did not pass in a run before this one.

    Yields:
        One result a check. A check that raises does not stop the run.
    """
    failed = set(before)
    for check in checks:
        begin = time.perf_counter()
        outcome = redact(_outcome(context, check, failed))
        if did_not_pass(outcome):
            failed.add(check.code)
        yield Result(code=check.code, title=check.title, outcome=outcome, seconds=time.perf_counter() - begin)


def did_not_pass(outcome: Outcome) -> bool:
    """Whether what requires a check cannot run after it."""
    return isinstance(outcome, Skipped | Crashed) or (
        isinstance(outcome, Flagged) and outcome.severity is Severity.ERROR
    )


def _outcome(context: Context, check: Check, failed: set[str]) -> Outcome:
    for need in check.needs:
        if reason := context.unavailable(need):
            return Skipped(reason=f"needs {need.value}: {reason}")
    blocking = [code for code in check.requires if code in failed]
    if blocking:
        return Skipped(reason=f"{', '.join(blocking)} did not pass")
    said: list[Finding | Measurement] = []
    try:
        if check.unless and (reason := check.unless(context)):
            return NotApplicable(reason=reason)
        with _limit(check):
            said.extend(check.run(context))
    except (VerdictError, UsageError) as error:
        said.append(Finding(message=error.message, fix=error.hint))
    except UndecidedError as error:
        if not _any_error(said):  # what was found before it gave up stands
            return Skipped(reason=error.message, hint=error.hint)
    except MemoryError:
        return Skipped(reason="out of memory")
    except OSError as error:  # the disk or a permission, not the adapter and not zoo
        return Skipped(reason=f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
    except Exception as error:  # a check that fails is a defect of ours, reported and survived
        return Crashed(error=f"{type(error).__name__}: {error}", traceback=traceback.format_exc())
    measured = {item.name: item.value for item in said if isinstance(item, Measurement)}
    findings = [item for item in said if isinstance(item, Finding)]
    return Flagged(findings=findings, measured=measured) if findings else Passed(measured=measured)


def _limit(check: Check) -> AbstractContextManager[None]:
    """Bounds a check that only reads files; one that runs a model is bounded by its prompts."""
    if Need.TORCH in check.needs:
        return nullcontext()
    return limited(check.code, seconds=SECONDS, memory=MEMORY)


def _any_error(said: Iterable[Finding | Measurement]) -> bool:
    return any(isinstance(item, Finding) and item.severity is Severity.ERROR for item in said)
