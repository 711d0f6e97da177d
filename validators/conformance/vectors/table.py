"""A run of the vectors in words and as JSON."""

import json
import textwrap
from typing import Any, assert_never

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


def word(outcome: Outcome) -> str:
    """The outcome in a word or two."""
    match outcome:
        case Agrees():
            return "news" if outcome.news else "agrees"
        case FailsAsKnown():
            return "fails as known"
        case FailsAnew():
            return "FAILS"
        case NotApplicable():
            return "n/a"
        case Unanswered():
            return "no answer"
        case Crashed():
            return "CRASHED"
        case _ as unreachable:
            assert_never(unreachable)


def detail(outcome: Outcome) -> str:
    """What there is to say about it, on one line."""
    match outcome:
        case Agrees():
            told = f"{outcome.compared} of {outcome.stated} positions, within {outcome.worst:.1e}"
            return f"{told}; known deviation not seen: {outcome.news}" if outcome.news else told
        case FailsAsKnown():
            return f"off by {outcome.worst:.2g}, predicted to {outcome.predicted:.1e}: {outcome.note}"
        case FailsAnew():
            return f"off by {outcome.worst:.2g} at {outcome.where}"
        case NotApplicable():
            return outcome.reason
        case Unanswered() | Crashed():
            return " ".join(outcome.error.split())
        case _ as unreachable:
            assert_never(unreachable)


def render_table(report: VectorReport, *, everything: bool = False) -> str:
    """The report for people: a line a group, then what is not as it should be, then the verdict.

    Args:
        report: of a run.
        everything: a line for every vector.
    """
    lines = [f"{'group':<12} {'agrees':>7} {'known':>7} {'FAILS':>7} {'n/a':>7} {'no answer':>10}"]
    for group in dict.fromkeys(result.group for result in report.results):
        own = [result.outcome for result in report.results if result.group == group]
        kinds = (Agrees, FailsAsKnown, FailsAnew, NotApplicable)
        counts = [sum(isinstance(one, kind) for one in own) for kind in kinds]
        rest = sum(isinstance(one, Unanswered | Crashed) for one in own)
        lines.append(f"{group:<12} " + " ".join(f"{count:>7}" for count in counts) + f" {rest:>10}")
    lines.append("")
    shown = [result for result in report.results if everything or _worth(result.outcome)]
    lines += [f"{word(one.outcome):<15} {one.case.id}: {detail(one.outcome)}" for one in shown]
    if not everything:
        lines += [*_known(report), *_not_run(report)]
    return "\n".join([*lines, "", verdict(report)]) + "\n"


def verdict(report: VectorReport) -> str:
    """One sentence."""
    run = len(report.results) - len(report.ids(NotApplicable))
    known, anew = len(report.ids(FailsAsKnown)), len(report.ids(FailsAnew))
    agree, open_ = len(report.ids(Agrees)), len(report.ids(Unanswered, Crashed))
    said = {
        "agrees": "agrees",
        "known": "deviates as known",
        "fails": "DEVIATES",
        "incomplete": "INCOMPLETE",
        "crashed": "CRASHED",
    }[report.status()]
    parts = [f"{agree} agree", f"{known} fail as known", f"{anew} fail anew", f"{open_} have no answer"]
    news = f", {len(report.news())} known deviations are gone" if report.news() else ""
    total = len(report.results)
    return f"{said}: {report.engine}, {run} of {total} vectors run: {', '.join(parts)}{news}"


def render_json(report: VectorReport) -> str:
    """The report as one JSON document."""
    document = {
        "engine": report.engine,
        "known_versions": report.versions,
        "status": report.status(),
        "results": [_document(result) for result in report.results],
    }
    return json.dumps(document, indent=1) + "\n"


def _document(result: VectorResult) -> dict[str, Any]:
    found: dict[str, Any] = {"id": result.case.id, "group": result.group, "outcome": word(result.outcome)}
    worst = getattr(result.outcome, "worst", None)
    if worst is not None:
        found["worst"] = worst if worst < float("inf") else None  # JSON has no infinity
    return {**found, "detail": detail(result.outcome)}


def _worth(outcome: Outcome) -> bool:
    quiet = isinstance(outcome, Agrees | FailsAsKnown | NotApplicable)
    return not quiet or (isinstance(outcome, Agrees) and bool(outcome.news))


def _known(report: VectorReport) -> list[str]:
    """The vectors that fail as known, those of one deviation together, with the largest difference."""
    groups: dict[str, list[tuple[str, float]]] = {}
    for result in report.results:
        if isinstance(result.outcome, FailsAsKnown):
            groups.setdefault(result.outcome.note, []).append((result.case.id, result.outcome.worst))
    lines = []
    for note, found in groups.items():
        lines.append(f"fails as known  {note}; off by up to {max(worst for _, worst in found):.2g}:")
        ids = ", ".join(one for one, _ in found)
        lines += textwrap.wrap(
            ids, 96, initial_indent=" " * 16, subsequent_indent=" " * 16, break_on_hyphens=False
        )
    return lines


def _not_run(report: VectorReport) -> list[str]:
    """The vectors that were not run, those with one reason together."""
    groups: dict[str, int] = {}
    for result in report.results:
        if isinstance(result.outcome, NotApplicable):
            groups[result.outcome.reason] = groups.get(result.outcome.reason, 0) + 1
    return [f"{'n/a':<15} {count} vectors: {reason}" for reason, count in groups.items()]
