"""Which adapter acts on which token of a vector: the rule, and what a convention makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.activation import PEFT, Convention, active_mask
from zoo.validators.conformance.vectors.case import Case, Earlier, Row

Plan = tuple[str | None, ...]
"""The adapter that acts on each token of one row; None is the base model."""

Rule = Callable[[Case], tuple[Plan, ...]]
"""A plan for each row of a vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """A way in which an engine is known to leave the rule.

    Attributes:
        note: one sentence.
        source: where it was read or measured.
        rule: the plans that the engine follows instead; where they are the right ones, it predicts nothing.
    """

    note: str
    source: str
    rule: Rule


def by_rule(case: Case) -> tuple[Plan, ...]:
    """The plans that are right: from the prompt's last whole invocation to the end, decoded tokens too."""
    return by_convention(case, PEFT)


def by_convention(case: Case, convention: Convention) -> tuple[Plan, ...]:
    """The plans of an engine that does as its convention says.

    Raises:
        ValueError: the convention is to refuse.
    """
    return tuple(row_plan(row, convention) for row in case.rows)


def row_plan(row: Row, convention: Convention = PEFT) -> Plan:
    """One row's plan; what was decoded continues as the prompt ended."""
    if row.adapter is None:
        return (None,) * len(row.ids)
    mask = active_mask(row.ids[: row.prompt], row.invocation, convention)
    mask += mask[-1:] * (len(row.ids) - row.prompt)
    return tuple(row.adapter if active else None for active in mask)


def earlier_plan(earlier: Earlier) -> Plan:
    """The right plan of an earlier request."""
    if earlier.adapter is None:
        return (None,) * len(earlier.ids)
    mask = active_mask(earlier.ids, earlier.invocation)
    return tuple(earlier.adapter if active else None for active in mask)


def reusable(old: Sequence[int], acted: Plan, new: Sequence[int], planned: Plan) -> int:
    """How many leading tokens' KV of an earlier request a new one may keep.

    As far as both have the same ids and the same adapter on them, and at most up to the new prompt's last
    token, which has to be run for its logits.

    Args:
        old: the earlier request's ids.
        acted: the adapter that acted on each of them.
        new: the new ids.
        planned: the new ids' plan.
    """
    count = 0
    for before, now in zip(zip(old, acted, strict=True), zip(new, planned, strict=True), strict=False):
        if before != now:
            break
        count += 1
    return min(count, len(new) - 1)
