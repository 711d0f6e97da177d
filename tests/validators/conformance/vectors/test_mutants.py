"""Each wrong rule is caught by a vector, and each vector catches a wrong rule, by its numbers."""

import pytest

from tests.vectors.mutants import MUTANTS
from zoo.validators.conformance.vectors.case import cases, read_groups
from zoo.validators.conformance.vectors.compare import gap
from zoo.validators.conformance.vectors.oracle import Oracle
from zoo.validators.conformance.vectors.rules import by_rule

CASES = tuple(cases(read_groups()))
SEEN = 0.1  # nats: a hundred tolerances


@pytest.fixture(scope="module")
def kills() -> dict[str, list[str]]:
    """The vectors that catch a wrong rule, by its name."""
    oracle, found = Oracle(), {name: list[str]() for name in MUTANTS}
    for case in CASES:
        expected = [{one.position: one.log_probs for one in row.expected} for row in case.rows]
        assert gap(expected, oracle.predicted(case, by_rule)).nats <= 1e-9
        for name, rule in MUTANTS.items():
            if rule(case) != by_rule(case) and gap(expected, oracle.predicted(case, rule)).nats > SEEN:
                found[name].append(case.id)
    return found


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_rule_is_caught(name: str, kills: dict[str, list[str]]) -> None:
    print(f"{name}: {len(kills[name])} vectors: {', '.join(kills[name])}")
    assert kills[name]


def test_every_vector_catches_a_wrong_rule(kills: dict[str, list[str]]) -> None:
    catching = {one for caught in kills.values() for one in caught}
    assert {case.id for case in CASES} == catching


def test_a_rule_that_is_seen_in_the_mask_is_seen_in_the_numbers(kills: dict[str, list[str]]) -> None:
    """No vector holds a wrong mask whose numbers would pass."""
    differing = {
        (name, case.id) for name, rule in MUTANTS.items() for case in CASES if rule(case) != by_rule(case)
    }
    assert differing == {(name, one) for name, caught in kills.items() for one in caught}


@pytest.mark.parametrize(
    ("name", "caught"),
    [
        ("across-rows", "occurrence-across-two-rows"),
        ("without-overlaps", "c-overlaps-by-two"),
        ("not-at-the-start", "at-position-0"),
        ("everything-scanned", "decoded-invocation-again"),
        ("padding-searched", "padding-right-id-is-the-invocation"),
        ("from-the-padded-end", "padding-right"),
        ("start-without-padding", "padding-left"),
        ("call-by-call", "two-calls-at-08"),
        ("cache-as-it-is", "second-turn-after-the-first"),
        ("base-rows-invoke", "base-with-an-invocation"),
        ("first-invocation-for-all", "crossed-invocations"),
        ("one-early", "last-token-repeated"),
    ],
)
def test_the_vector_made_for_a_mistake_catches_it(
    name: str, caught: str, kills: dict[str, list[str]]
) -> None:
    assert caught in kills[name]
