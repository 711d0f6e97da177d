"""Every reference and condition of a flow file, with its place, and how findings point there."""

from collections.abc import Iterator
from dataclasses import dataclass

from zoo.contracts.fields import Field
from zoo.flows.flow import Flow
from zoo.report import Finding, Location, Severity
from zoo.specs.condition import Condition
from zoo.specs.flow import RESPONSE
from zoo.specs.reference import DATA, Reference

Where = tuple[str | int, ...]
TEXTS = frozenset({"string"})
LIST = frozenset({"array"})
WANTED = {"last_user": TEXTS, "assistant": TEXTS, "messages": LIST, "documents": LIST}
ARGUMENT = frozenset({"string", "number", "integer", "boolean"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One reference in a flow file.

    Attributes:
        reference: what it refers to.
        where: its path in the file.
        index: of the step that holds it; the number of steps when it is in `output` or `score`.
        wanted: JSON types that its use wants; empty for any.
        what: names it in messages.
    """

    reference: Reference
    where: Where
    index: int
    wanted: frozenset[str]
    what: str


def uses(flow: Flow) -> Iterator[Use]:
    """Every reference of a flow file, conditions left out."""
    last = len(flow.spec.steps)
    for index, step in enumerate(flow.spec.steps):
        for name, reference in step.references.items():
            where: Where = ("steps", index, "input", *name.split(".", 1))
            what = f"{name} of step {step.id}"
            yield Use(
                reference=reference, where=where, index=index, wanted=WANTED.get(name, ARGUMENT), what=what
            )
    for name, reference in flow.spec.outputs.items():
        wanted = TEXTS if name == RESPONSE else frozenset()
        yield Use(
            reference=reference, where=("output", name), index=last, wanted=wanted, what=f"output.{name}"
        )
    if flow.spec.score.reference.head != DATA:
        where = ("score", "faithfulness")
        yield Use(
            reference=flow.spec.score.reference, where=where, index=last, wanted=frozenset(), what="the score"
        )


def conditions(flow: Flow) -> Iterator[tuple[int, Condition, Where]]:
    """Every condition with the index of its step and its place."""
    for index, step in enumerate(flow.spec.steps):
        several = isinstance(step.when, list)
        for number, condition in enumerate(step.conditions):
            yield index, condition, ("steps", index, "when", *([number] if several else []))


def all_references(flow: Flow) -> Iterator[tuple[Reference, Where, int, str]]:
    """Every reference with its place, the index of its step, and what it is for."""
    for use in uses(flow):
        yield use.reference, use.where, use.index, use.what
    for index, condition, where in conditions(flow):
        yield condition.reference, where, index, f"the condition of step {flow.spec.steps[index].id}"


def finding_at(
    flow: Flow, where: Where, message: str, *, fix: str = "", severity: Severity = Severity.ERROR
) -> Finding:
    """A finding at a path of the flow file."""
    line, _ = flow.document.place(where)
    return Finding(
        message=message, severity=severity, fix=fix, location=Location(file=flow.path.name, line=line)
    )


def known_field(flow: Flow, reference: Reference) -> Field | None:
    """What a reference leads to; None when that is open, or when it leads nowhere."""
    try:
        return flow.field(reference)
    except KeyError:
        return None
