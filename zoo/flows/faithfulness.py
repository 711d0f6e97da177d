"""Faithfulness of a response to its documents: a number in [0, 1], from a step or from the data."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import ContractError, SpecError
from zoo.flows.data import Row
from zoo.flows.execution import FlowRun
from zoo.specs.condition import is_number
from zoo.specs.flow import FlowSpec, Score
from zoo.specs.reference import DATA, EVERY, AbsentError

ROUNDING = 1e-6  # a likelihood is a quotient of sums of probabilities


def from_data(score: Score, row: Row, variant: str) -> float | None:
    """The faithfulness that the data gives for a response; None when it gives none.

    Args:
        score: names the field.
        row: a line of the data.
        variant: the flow's or control's name, by which the field may hold several numbers.

    Raises:
        SpecError: ZO311, what is there is no number in [0, 1] and no label with a value.
    """
    try:
        value = given(row, score.reference.path)
        return _worth(score, value.get(variant) if isinstance(value, Mapping) else value)
    except ContractError as error:
        raise SpecError(
            f"line {row.line} of the data: {error.message}", code="ZO311", hint=error.hint
        ) from None


def from_step(score: Score, run: FlowRun) -> float | None:
    """The faithfulness that a step found; None when it did not run or named no value.

    Raises:
        ContractError: ZO311, its result has no number in [0, 1] and no label with a value.
    """
    record = next((step for step in run.steps if step.id == score.reference.head), None)
    if record is None or record.state not in ("ran", "constant"):
        return None
    try:
        return _worth(score, score.reference.find(record.result))
    except AbsentError as error:
        raise _wrong(f"{error} is not there", error.path) from None


def _worth(score: Score, found: Any) -> float | None:
    values = [_value(score, one) for one in _flat(found)] if found is not None else []
    counted = [value for value in values if value is not None]
    if not counted:
        return None
    return min(counted) if score.over == "min" else sum(counted) / len(counted)


def meaning(spec: FlowSpec) -> str:
    """What the faithfulness of this flow is, in a sentence for people."""
    score, reference = spec.score, spec.score.reference
    if reference.head == DATA:
        field = ".".join(reference.path)
        return f"the field `{field}` of the data: a number that was given with it, not measured here"
    step = next(step for step in spec.steps if step.id == reference.head)
    values = ", ".join(
        f"{label} = {'left out' if v is None else f'{v:g}'}" for label, v in score.values.items()
    )
    several = (
        f"; several come to their {'mean' if score.over == 'mean' else 'least'}" if reference.wild else ""
    )
    return (
        f"what step {step.id} ({step.use}) says of each response, {reference}"
        f"{f' ({values})' if values else ''}{several}: "
        "a model's judgement, comparable between these flows and not with figures of other judges"
    )


def given(row: Row, path: tuple[str, ...]) -> Any:
    """What a field of the data holds; None when there is no such field."""
    value: Any = row.fields
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _flat(value: Any) -> list[Any]:
    return [leaf for element in value for leaf in _flat(element)] if isinstance(value, list) else [value]


def _value(score: Score, found: Any) -> float | None:
    if isinstance(found, str) and found in score.values:
        return score.values[found]
    if is_number(found) and -ROUNDING <= found <= 1 + ROUNDING:
        return min(1.0, max(0.0, float(found)))
    hint = f"score: {{values: {{{found}: 1}}}}" if isinstance(found, str) else "a share, not a percentage"
    raise _wrong(f"{str(found)[:60]!r} is no number in [0, 1] and no label with a value", (EVERY,), hint)


def _wrong(message: str, path: tuple[str, ...], hint: str = "") -> ContractError:
    return ContractError(f"faithfulness: {message}", path=path, code="ZO311", hint=hint)
