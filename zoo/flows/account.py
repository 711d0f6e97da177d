"""What a scoring run says: as plain data, and as a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from zoo.flows.controls import WHOLE, Variant
from zoo.flows.data import Row
from zoo.flows.faithfulness import given, meaning
from zoo.flows.measure import Measured
from zoo.flows.scoring import Estimate, Figures, Outcome, difference, figures
from zoo.specs.flow import FlowSpec
from zoo.specs.reference import DATA

FORMAT = 1
SAME = "nothing that is scored depends on this step"
_DASH = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The figures of a flow and its controls over a data set.

    Attributes:
        name: the flow's.
        faithfulness: what faithfulness is here, in a sentence.
        n: queries.
        answerable: of these, answerable ones.
        figures: by variant, the flow first.
        gains: JAFS of the flow minus that of a control, by control.
        notes: by variant, what else there is to say about it.
        abstaining: JAFS of a flow that always abstains: the share of unanswerable queries.
        without_documents: F1 on unanswerable queries of the rule that a query without documents is
            unanswerable; near 1 means that the data gives its labels away.
        failures: a few of the errors that made rows fail, by variant.
    """

    name: str
    faithfulness: str
    n: int
    answerable: int
    figures: Mapping[str, Figures]
    gains: Mapping[str, Estimate | None]
    notes: Mapping[str, str]
    abstaining: float
    without_documents: float | None
    failures: Mapping[str, Sequence[str]]

    @property
    def exit_code(self) -> int:
        """0; 1 when the flow failed on every query; 3 when a faithfulness is missing."""
        if self.figures[WHOLE].failed == self.n:
            return 1
        return 3 if any(found.unmeasured for found in self.figures.values()) else 0


def account(spec: FlowSpec, rows: Sequence[Row], measured: Measured) -> Account:
    """Works the figures out."""
    whole = measured.outcomes[WHOLE]
    notes = {variant.name: "; ".join(_notes(variant, spec, rows, measured)) for variant in measured.variants}
    guess = [
        Outcome(answerable=r.answerable, state="answered" if r.request.documents else "abstained")
        for r in rows
    ]
    rule = figures(guess).f1_unanswerable
    return Account(
        name=spec.name,
        faithfulness=meaning(spec),
        n=len(rows),
        answerable=sum(row.answerable for row in rows),
        figures={name: figures(found) for name, found in measured.outcomes.items()},
        gains={name: difference(whole, found) for name, found in measured.outcomes.items() if name != WHOLE},
        notes={name: note for name, note in notes.items() if note},
        abstaining=sum(not row.answerable for row in rows) / len(rows),
        without_documents=None if rule is None else rule.value,
        failures={
            name: list(dict.fromkeys(entry.error for entry in found if entry.error))[:3]
            for name, found in measured.entries.items()
        },
    )


def _notes(variant: Variant, spec: FlowSpec, rows: Sequence[Row], measured: Measured) -> Iterator[str]:
    if variant.name == WHOLE:
        return
    if variant.silent:
        yield f"nor can {', '.join(variant.silent)} run then"
    if variant.same:
        yield SAME
    elif measured.outcomes[variant.name] == measured.outcomes[WHOLE]:
        yield "no query came out differently, so the interval of the gain says nothing"
    if alike := _rated_alike(spec, rows, measured, variant.name):
        yield f"{alike} of its responses differ from the flow's, and the data has one faithfulness for both"


def _rated_alike(spec: FlowSpec, rows: Sequence[Row], measured: Measured, name: str) -> int:
    """How many of a control's answers differ from the flow's although the data rates both with one number."""
    reference = spec.score.reference
    if reference.head != DATA:
        return 0
    return sum(
        one.response != other.response and one.state == other.state == "answered" and row.answerable
        for one, other, row in zip(measured.entries[WHOLE], measured.entries[name], rows, strict=True)
        if not isinstance(given(row, reference.path), Mapping)
    )


def to_document(found: Account) -> dict[str, Any]:
    """The account as plain data, with its format's number."""
    return {"format": FORMAT, **asdict(found)}


def render_account(found: Account) -> str:
    """The account as a table; figures in [0, 1], 95 % intervals in brackets."""
    header = (
        "",
        "F1 unanswerable",
        "F1 answerable",
        "responses",
        "their faithfulness",
        "JAFS",
        "flow gains JAFS",
    )
    rows = [header, *(_row(name, figures, found) for name, figures in found.figures.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.insert(1, "  ".join("─" * width for width in widths))
    unanswerable = found.n - found.answerable
    lines = [
        f"{found.name}: {found.n} queries, {found.answerable} answerable, {unanswerable} unanswerable",
        f"faithfulness is {found.faithfulness}",
        "",
        *lines,
        "",
        f"always abstaining has JAFS {found.abstaining:.3f}"
        + (
            ""
            if found.without_documents is None
            else f"; taking queries without documents for unanswerable, F1 {found.without_documents:.3f}"
        ),
        *_remarks(found),
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, figure: Figures, found: Account) -> tuple[str, ...]:
    jafs = _estimate(figure.jafs)
    if figure.jafs is None:
        low, high = figure.jafs_bounds
        jafs = f"unknown: {low:.3f} to {high:.3f}"
    gain = found.gains.get(name)
    same = SAME in found.notes.get(name, "")
    return (
        name,
        _estimate(figure.f1_unanswerable),
        _estimate(figure.f1_answerable),
        f"{figure.answered} ({figure.answered_answerable} to answerable)",
        _estimate(figure.faithfulness),
        jafs,
        "" if name == WHOLE else "0: the same" if same else _estimate(gain, signed=True),
    )


def _estimate(figure: Estimate | None, *, signed: bool = False) -> str:
    if figure is None:
        return _DASH
    sign = "+" if signed else ""
    return f"{figure.value:{sign}.3f} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"


def _remarks(found: Account) -> list[str]:
    lines = [f"{name}: {note}" for name, note in found.notes.items()]
    for name, figure in found.figures.items():
        if figure.unmeasured:
            lines.append(
                f"{name}: {figure.unmeasured} answers have no faithfulness, so its JAFS is not known"
            )
        if figure.failed:
            said = "; ".join(found.failures[name])
            lines.append(f"{name}: {figure.failed} queries failed and count as wrong: {said}")
    return lines
