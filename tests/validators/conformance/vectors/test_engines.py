"""Our reference and PEFT, really run, and the oracle held against both."""

from typing import Any

import pytest

from zoo.validators.conformance.vectors.case import Case, cases, read_groups
from zoo.validators.conformance.vectors.exact import run
from zoo.validators.conformance.vectors.opening import run_on
from zoo.validators.conformance.vectors.outcome import (
    Agrees,
    FailsAnew,
    FailsAsKnown,
    NotApplicable,
    VectorReport,
)
from zoo.validators.conformance.vectors.peft_engine import PeftEngine
from zoo.validators.conformance.vectors.reference_engine import ReferenceEngine
from zoo.validators.conformance.vectors.rules import by_rule
from zoo.validators.conformance.vectors.runner import run_vectors

CASES = {case.id: case for case in cases(read_groups())}

# What peft 0.21.2 gets wrong when it is called as its users call it, by the place in the project's survey of
# implementations (sections 1.3 and 1.4) and of the testbed (section 4). A release that changes one is news.
PEFT_FAILS = {
    # 1.3: padding with an id of the invocation moves the activation into the padding
    "padding-left-id-begins-the-invocation",
    "padding-left-id-is-the-invocation",
    "padding-right-id-ends-the-invocation",
    "padding-right-id-is-the-invocation",
    # 1.4: the cached part already contains tokens of the invocation
    "base-prefilled-1-of-the-invocation",
    "base-prefilled-2-of-the-invocation",
    "base-prefilled-3-of-the-invocation",
    "base-prefilled-everything",
    "position-0-after-the-base",
    # 1.4: a cached turn is adapted from its own invocation, a fresh run only from the last one; and a cache
    # is continued whichever adapter filled it
    "second-turn-after-the-first",
    "base-after-the-adapter",
    "absent-after-the-adapter",
    "b-after-a",
    # 1.4: generate(prefill_chunk_size=) adapts the last tokens of every chunk
    *(f"two-calls-at-{at:02}" for at in range(7, 14)),
    "calls-of-4",
    "calls-of-5",
    "calls-of-8",
    "token-by-token",
    "token-by-token-single",
    "token-by-token-overlapping",
    "two-calls-in-the-overlap",
    # 1.3: a loop over forward: the call lacks the invocation
    "three-uneven-calls",
    "decoded-tokens",
    "decoded-after-the-very-end",
    "decoded-invocation-again",
    "decoded-in-a-padded-batch",
    # not in the survey, the same cause: a decoded token that is the invocation is found in its own call
    "decoded-single-token",
    # 1.3: inputs_embeds without alora_offsets is the base model
    "embeds",
    "embeds-single-token",
}


@pytest.fixture(scope="module")
def peft() -> VectorReport:
    return run_on("peft")


def test_peft_as_users_call_it_fails_where_it_is_known_to(peft: VectorReport) -> None:
    assert set(peft.ids(FailsAsKnown)) == PEFT_FAILS
    assert set(peft.ids(Agrees)) == set(CASES) - PEFT_FAILS
    assert not peft.news()
    assert peft.status() == "known"


def test_what_peft_gets_wrong_is_large_and_what_is_predicted_is_exact(peft: VectorReport) -> None:
    for result in peft.of(FailsAsKnown):
        assert isinstance(result.outcome, FailsAsKnown)
        assert result.outcome.worst > 0.1
        assert result.outcome.predicted < 1e-4
        assert "peft 0.21.2" in result.outcome.source


def test_peft_told_the_offsets_agrees_with_every_vector() -> None:
    report = run_on("peft-offsets")
    assert set(report.ids(Agrees)) == set(CASES)
    assert report.exit_code(strict=True) == 0


def test_the_reference_agrees_with_every_vector_that_it_can_run() -> None:
    report = run_on("reference")
    assert set(report.ids(NotApplicable)) == {
        one for one, case in CASES.items() if "inputs-embeds" in case.flags
    }
    assert set(report.ids(Agrees)) == set(CASES) - set(report.ids(NotApplicable))
    for result in report.of(Agrees):
        assert isinstance(result.outcome, Agrees)
        assert result.outcome.compared == result.outcome.stated or result.case.history
        assert result.outcome.worst < 1e-4


def test_a_peft_that_is_one_token_late_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import variants

    right = variants.calculate_alora_offsets

    def late(*arguments: Any, **rest: Any) -> list[int | None]:
        return [offset and offset - 1 for offset in right(*arguments, **rest)]

    monkeypatch.setattr(variants, "calculate_alora_offsets", late)
    report = run_vectors(PeftEngine(), tuple(g for g in read_groups() if g.name in ("occurrences", "chunks")))
    assert "once-in-the-middle" in report.ids(FailsAnew)
    assert report.exit_code() == 1


def test_a_peft_that_carries_the_activation_on_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that cures a known deviation does not pass silently."""
    from zoo.validators.conformance.vectors.peft_engine import PeftWithOffsets

    class Cured(PeftWithOffsets):
        deviations = PeftEngine.deviations

    groups = tuple(group for group in read_groups() if group.name == "decoding")
    report = run_vectors(Cured(), groups)
    assert set(report.news()) == {test.id for test in groups[0].tests} & PEFT_FAILS
    assert report.exit_code() == 0
    assert report.exit_code(strict=True) == 1


@pytest.fixture(scope="module")
def reference() -> ReferenceEngine:
    return ReferenceEngine()


@pytest.mark.parametrize("case", list(CASES.values())[::9], ids=lambda case: case.id)
def test_the_driver_run_on_wrong_plans_shows_it(case: Case, reference: ReferenceEngine) -> None:
    """The reference given the rule one token late: the driver does not smooth the difference away."""
    if len({row.adapter for row in case.rows}) > 1 or not any(
        row.active_from is not None for row in case.rows
    ):
        case = CASES["once-in-the-middle"]
    late = [
        (None, *plan[:-1]) if row.active_from != len(row.ids) - 1 else (None,) * len(plan)
        for row, plan in zip(case.rows, by_rule(case), strict=True)
    ]
    answers = run(case, late, reference._call)
    row = next(index for index, row in enumerate(case.rows) if row.active_from is not None)
    last = case.rows[row].expected[-1]
    assert max(abs(answers[row][last.position][t] - v) for t, v in last.log_probs.items()) > 0.05


def test_the_oracle_is_the_reference_in_double_precision() -> None:
    """They share no code; what is left is that transformers rotates positions in float32."""
    import torch

    from zoo.adapter import AdapterRepo
    from zoo.models import load_model, resolve
    from zoo.validators.conformance.reference import Reference
    from zoo.validators.conformance.vectors.case import ADAPTERS, MODEL
    from zoo.validators.conformance.vectors.oracle import Oracle

    model = load_model(resolve(str(MODEL))).double()
    oracle = Oracle()
    for case in (CASES["last-of-three"], CASES["single-token-last-of-two"], CASES["c-overlaps-by-one"]):
        (row,), (plan,) = case.rows, by_rule(case)
        assert row.adapter
        reference = Reference.from_folder(model, AdapterRepo.open(ADAPTERS[row.adapter]))
        mask = torch.tensor([[one is not None for one in plan]])
        found = reference.log_probs(torch.tensor([row.ids]), mask)[0].numpy()
        assert abs(found - oracle.log_probs(row.ids, plan)).max() < 2e-5
        assert abs(found - oracle.log_probs(row.ids, (None,) * len(plan))).max() > 0.1
