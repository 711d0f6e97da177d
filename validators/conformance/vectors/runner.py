"""Runs the vectors on an engine and says of each whether it agrees, and if not whether that is news."""

import math
import traceback
from collections.abc import Sequence
from typing import Protocol

from zoo.activation import Behaviour, Convention
from zoo.errors import EngineError
from zoo.progress import Progress, silent
from zoo.validators.conformance.engines.refusal import EngineRefusesError
from zoo.validators.conformance.vectors.case import Case, Group, read_groups
from zoo.validators.conformance.vectors.compare import LogProbs, gap, incomplete
from zoo.validators.conformance.vectors.oracle import Oracle
from zoo.validators.conformance.vectors.outcome import (
    Agrees,
    Crashed,
    FailsAnew,
    FailsAsKnown,
    NotApplicable,
    Outcome,
    Unanswered,
    VectorReport,
    VectorResult,
)
from zoo.validators.conformance.vectors.rules import Deviation, by_convention, by_rule

STAGE = "vectors"


class VectorEngine(Protocol):
    """What the vectors ask of an engine."""

    @property
    def convention(self) -> Convention:
        """What it is known to do with an aLoRA."""

    @property
    def deviations(self) -> Sequence[Deviation]:
        """What it is known to do otherwise, beyond its convention."""

    def lacks(self, case: Case) -> str:
        """What the vector needs and the engine has no way to do, as a reason; empty when it can run it."""

    def log_probs(self, case: Case) -> Sequence[LogProbs]:
        """The next token's log-probabilities, a row each, by position and token id.

        At least at each row's last position; at more of the stated positions where the engine tells them.
        At least the 20 likeliest tokens.

        Raises:
            EngineRefusesError: it does not take the adapter.
            EngineError: it failed.
        """


def run_vectors(
    engine: VectorEngine,
    groups: tuple[Group, ...] | None = None,
    *,
    tolerance: float | None = None,
    oracle: Oracle | None = None,
    progress: Progress = silent,
) -> VectorReport:
    """Runs vectors on an engine.

    Args:
        engine: under test.
        groups: what to run; all shipped vectors when None.
        tolerance: in nats; when None each vector's own, which is for float32.
        oracle: computes what a known deviation predicts; for the shipped model when None.
        progress: told after each vector.
    """
    chosen = read_groups() if groups is None else groups
    judge = oracle or Oracle()
    count = sum(len(group.tests) for group in chosen)
    results: list[VectorResult] = []
    for group in chosen:
        for case in group.tests:
            outcome = _run(engine, case, tolerance or case.tolerance, judge)
            results.append(VectorResult(group=group.name, case=case, outcome=outcome))
            progress(STAGE, done=len(results), total=count, note=case.id)
    known = engine.convention
    return VectorReport(engine=known.engine, versions=known.versions, results=tuple(results))


def _run(engine: VectorEngine, case: Case, tolerance: float, oracle: Oracle) -> Outcome:
    known = engine.convention
    try:
        if reason := engine.lacks(case):
            return NotApplicable(reason=reason)
        answers = engine.log_probs(case)
    except EngineRefusesError as error:
        return _refused(known, case, str(error))
    except EngineError as error:
        return Unanswered(error=str(error))
    except Exception as error:  # the other vectors still run, and the report says that this one broke
        return Crashed(error=f"{type(error).__name__}: {error}"[:300], traceback=traceback.format_exc())
    last = [len(row.ids) - 1 for row in case.rows]
    if lacking := incomplete(last, oracle.vocabulary, answers):
        return Unanswered(error=lacking)
    expected = [{one.position: one.log_probs for one in row.expected} for row in case.rows]
    found = gap(expected, answers)
    due = [(one, gap(oracle.predicted(case, one.rule), answers)) for one in _deviations(engine, case)]
    if found.nats <= tolerance:
        unseen = [one.note for one, distance in due if not distance.nats <= tolerance]
        if known.behaviour is Behaviour.REFUSED and case.adapters:
            unseen.append(known.note)
        stated = sum(len(row) for row in expected)
        return Agrees(worst=found.nats, compared=found.compared, stated=stated, news="; ".join(unseen))
    for deviation, distance in due:
        if distance.nats <= tolerance:
            return FailsAsKnown(
                worst=found.nats, predicted=distance.nats, note=deviation.note, source=deviation.source
            )
    return FailsAnew(worst=found.nats, where=found.where)


def _refused(known: Convention, case: Case, said: str) -> Outcome:
    if known.behaviour is not Behaviour.REFUSED:
        return FailsAnew(worst=math.inf, where=f"it refuses: {said}"[:200])
    if not case.adapters:
        return NotApplicable(reason="it takes no aLoRA, so there is no base row beside one")
    return FailsAsKnown(worst=math.inf, predicted=0.0, note=known.note, source=known.source)


def _deviations(engine: VectorEngine, case: Case) -> list[Deviation]:
    """The engine's deviations that concern the vector, its convention's among them."""
    known = engine.convention
    found: list[Deviation] = []
    if known.behaviour is not Behaviour.REFUSED:
        found.append(
            Deviation(note=known.note, source=known.source, rule=lambda asked: by_convention(asked, known))
        )
    found += engine.deviations
    return [deviation for deviation in found if deviation.rule(case) != by_rule(case)]
