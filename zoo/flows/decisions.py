"""Conditions: what they compare, whether they decide anything, and whether each step can run at all."""

from collections.abc import Iterator

from zoo.contracts.fields import Field
from zoo.flows.domain import NUMERIC, fits, possible, type_of, witnesses
from zoo.flows.flow import Flow
from zoo.flows.uses import conditions, finding_at, known_field
from zoo.report import Finding, Severity
from zoo.specs.condition import ORDERED, Condition


def incomparable(condition: Condition, field: Field) -> str:
    """Why a field's values cannot be compared with a condition's literals; empty when they can."""
    if condition.operator in ORDERED and not field.types <= NUMERIC:
        kind = field.describe()
        return f"{condition}: {condition.operator} orders numbers, and {condition.reference} is {kind}"
    wrong = [literal for literal in condition.literals if not fits(type_of(literal), field.types)]
    if wrong:
        return f"{condition} compares {field.describe()} with {type_of(wrong[0])}"
    return ""


def unreachable(flow: Flow) -> Iterator[Finding]:
    """Steps whose conditions cannot hold together with those that held, or the flow would have ended."""
    established: list[Condition] = []
    everything = [condition for _, condition, _ in conditions(flow)]
    for index, step in enumerate(flow.spec.steps):
        for reference in {condition.reference for condition in step.conditions}:
            field = known_field(flow, reference)
            if field is None:
                continue
            mine = [one for one in step.conditions if one.reference == reference]
            before = [one for one in established if one.reference == reference]
            values = witnesses(field, [one for one in everything if one.reference == reference])
            alone = all(possible(values, [one]) for one in mine)
            if values and alone and not possible(values, [*mine, *before]):
                message = f"step {step.id} can never run: {_together(mine, before)}"
                yield finding_at(flow, ("steps", index, "when"), message)
        if step.otherwise and step.otherwise.abstain is not None:
            established += step.conditions


def _together(mine: list[Condition], before: list[Condition]) -> str:
    said = " and ".join(map(str, mine))
    if not before:
        return f"{said} exclude each other"
    return f"where {said}, the flow has ended already, because {' and '.join(map(str, before))} did not hold"


def conditions_decide(flow: Flow) -> Iterator[Finding]:
    """ZO315."""
    everything = [condition for _, condition, _ in conditions(flow)]
    for index, condition, where in conditions(flow):
        field = known_field(flow, condition.reference)
        if field is None or incomparable(condition, field):
            continue
        values = witnesses(field, [one for one in everything if one.reference == condition.reference])
        holding = possible(values, [condition])
        if not values or 0 < len(holding) < len(values):
            continue
        always = "always" if holding else "never"
        message = (
            f"step {flow.spec.steps[index].id}: {condition} {always} holds: {_known_values(condition, field)}"
        )
        yield finding_at(flow, where, message, severity=Severity.WARNING if holding else Severity.ERROR)


def _known_values(condition: Condition, field: Field) -> str:
    import json

    if field.values is not None:
        shown = ", ".join(json.dumps(value, ensure_ascii=False) for value in field.values[:12])
        return f"{condition.reference} is one of {shown}"
    least = "" if field.least is None else f" from {field.least:g}"
    return f"{condition.reference} is {field.describe()}{least}"
