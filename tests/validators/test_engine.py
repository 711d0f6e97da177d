"""What the engine makes of checks that pass, flag, raise, or cannot run."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zoo.adapter import AdapterRepo
from zoo.errors import RefusedError, SpecError, UndecidedError
from zoo.report import Crashed, Finding, Flagged, NotApplicable, Outcome, Passed, Severity, Skipped
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.engine import run_checks

Said = Iterator[Finding | Measurement]


def raising(error: BaseException) -> Callable[[Context], Said]:
    def run(context: Context) -> Said:
        yield Measurement(name="before", value=1)
        raise error

    return run


def saying(*said: Finding | Measurement) -> Callable[[Context], Said]:
    return lambda context: iter(said)


def outcomes(*checks: Check, static: bool = True) -> list[Outcome]:
    repo = AdapterRepo(root=Path("nowhere"), name="x")
    context = Context(repo=repo, base_missing="no base here", static=static)
    return [result.outcome for result in run_checks(context, checks)]


def check(code: str = "ZX001", run: Callable[[Context], Said] | None = None, **rest: object) -> Check:
    return Check(code=code, title="t", run=run or saying(), **rest)  # type: ignore[arg-type]


WRONG = Finding(message="wrong")


OUTCOMES: dict[str, tuple[Callable[[Context], Said], type[Outcome]]] = {
    "says nothing": (saying(), Passed),
    "measures": (saying(Measurement(name="x", value=2)), Passed),
    "finds": (saying(WRONG), Flagged),
    "refuses": (raising(RefusedError("no", code="ZX009", hint="do that")), Flagged),
    "cannot read": (raising(SpecError("bad file")), Flagged),
    "cannot tell": (raising(UndecidedError("cannot tell")), Skipped),
    "out of memory": (raising(MemoryError()), Skipped),
    "no permission": (raising(PermissionError(13, "Permission denied", "weights")), Skipped),
    "defect": (raising(KeyError("defect")), Crashed),
    "recursion": (raising(RecursionError()), Crashed),
}


@pytest.mark.parametrize(("run", "kind"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_an_outcome_for_everything(run: Callable[[Context], Said], kind: type[Outcome]) -> None:
    outcome, after = outcomes(check(run=run), check("ZX002"))
    assert isinstance(outcome, kind)
    assert isinstance(after, Passed)  # whatever happened, the run goes on


def test_a_refusal_keeps_its_hint_and_measurements_are_evidence() -> None:
    refused, measured = outcomes(
        check(run=raising(RefusedError("no", hint="do that"))),
        check("ZX002", saying(Measurement(name="x", value=2), WRONG)),
    )
    assert isinstance(refused, Flagged)
    assert refused.findings[0].fix == "do that"
    assert isinstance(measured, Flagged)
    assert measured.measured == {"x": 2}


def test_what_did_not_pass_blocks_what_requires_it() -> None:
    warning = Finding(message="w", severity=Severity.WARNING)
    found = outcomes(
        check("ZX001", saying(WRONG)),
        check("ZX002", saying(warning)),
        check("ZX003", raising(UndecidedError("u"))),
        check("ZX004", requires=("ZX001", "ZX002", "ZX003")),
        check("ZX005", requires=("ZX002",)),
        check("ZX006", requires=("ZX004",)),
    )
    assert found[3] == Skipped(reason="ZX001, ZX003 did not pass")
    assert isinstance(found[4], Passed)  # a warning blocks nothing
    assert found[5] == Skipped(reason="ZX004 did not pass")


def test_a_missing_need_is_skipped_and_said() -> None:
    base, torch = outcomes(check(needs=frozenset({Need.BASE})), check("ZX002", needs=frozenset({Need.TORCH})))
    assert isinstance(base, Skipped)
    assert "no base here" in base.reason
    assert isinstance(torch, Skipped)
    assert "static" in torch.reason


def test_nothing_to_look_at_is_not_a_skip() -> None:
    assert outcomes(check(unless=lambda context: "no such thing")) == [NotApplicable(reason="no such thing")]
    assert outcomes(check(unless=lambda context: "")) == [Passed()]
