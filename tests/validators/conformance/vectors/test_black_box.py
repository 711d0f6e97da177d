"""Engines that take one request at a time: what they are asked, and what they cannot be."""

from collections.abc import Iterator, Mapping

import pytest

from zoo.activation import LLAMA_SERVER, PEFT, VLLM
from zoo.errors import EngineError
from zoo.validators.conformance.engines.engine import Request
from zoo.validators.conformance.engines.refusal import EngineRefusesError
from zoo.validators.conformance.vectors.black_box import BlackBox
from zoo.validators.conformance.vectors.case import cases, invocation_of, read_groups
from zoo.validators.conformance.vectors.llama_rules import as_served
from zoo.validators.conformance.vectors.opening import run_on
from zoo.validators.conformance.vectors.oracle import Oracle
from zoo.validators.conformance.vectors.outcome import (
    Agrees,
    FailsAsKnown,
    NotApplicable,
    Unanswered,
    VectorReport,
)
from zoo.validators.conformance.vectors.rules import Plan, by_rule, row_plan
from zoo.validators.conformance.vectors.runner import run_vectors

CASES = {case.id: case for case in cases(read_groups())}
ORACLE = Oracle()


class Recording:
    """A right engine that remembers what it was asked."""

    convention = PEFT

    def __init__(self, adapter: str) -> None:
        self.adapter = adapter
        self.asked: list[Request] = []
        self.closed = 0

    def log_probs(self, request: Request) -> Mapping[int, float]:
        self.asked.append(request)
        plan: Plan = (None,) * len(request.ids)
        if request.adapter:
            from zoo.activation import active_mask

            mask = active_mask(request.ids, invocation_of(self.adapter))
            plan = tuple(self.adapter if on else None for on in mask)
        return dict(enumerate(ORACLE.log_probs(request.ids, plan)[-1].tolist()))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def opened() -> dict[str, Recording]:
    return {}


@pytest.fixture(params=[True, False], ids=["keeps its cache", "keeps nothing"])
def box(request: pytest.FixtureRequest, opened: dict[str, Recording]) -> Iterator[BlackBox]:
    def opening(adapter: str) -> Recording:
        return opened.setdefault(adapter, Recording(adapter))

    box = BlackBox(PEFT, opening, keeps=lambda engine: request.param)
    yield box
    box.close()
    assert all(engine.closed == 1 for engine in opened.values())


def test_a_right_engine_agrees_and_each_adapter_is_opened_once(
    box: BlackBox, opened: dict[str, Recording]
) -> None:
    report = run_vectors(box, oracle=ORACLE)
    assert report.status() == "agrees"
    assert sorted(opened) == ["a", "b", "c"]
    assert {case.id for case in CASES.values() if not case.flags} <= set(report.ids(Agrees))


def test_what_no_request_can_say_is_not_applicable_with_a_reason(box: BlackBox) -> None:
    report = run_vectors(box, oracle=ORACLE)
    for result in report.of(NotApplicable):
        assert isinstance(result.outcome, NotApplicable)
        assert result.outcome.reason
        assert result.case.flags
    assert {one.case.id for one in report.of(Agrees) if one.case.flags - {"cache-reuse"}} == set()


def test_a_history_is_served_first_and_its_cache_left_alone(opened: dict[str, Recording]) -> None:
    box = BlackBox(
        PEFT, lambda adapter: opened.setdefault(adapter, Recording(adapter)), keeps=lambda engine: True
    )
    case = CASES["back-to-the-base-and-again"]
    assert not box.lacks(case)
    box.log_probs(case)
    asked = opened["a"].asked
    assert [one.ids for one in asked] == [*(one.ids for one in case.history), case.rows[0].ids]
    assert [one.adapter for one in asked] == [False, True, False, True]
    assert [one.reuse for one in asked] == [False, True, True, True]


def test_an_engine_that_keeps_nothing_is_given_the_prefix_and_no_other_history(
    opened: dict[str, Recording],
) -> None:
    box = BlackBox(
        PEFT, lambda adapter: opened.setdefault(adapter, Recording(adapter)), keeps=lambda engine: False
    )
    box.log_probs(CASES["base-prefilled-2-of-the-invocation"])
    [request] = opened["a"].asked
    assert request.prefix == len(CASES["base-prefilled-2-of-the-invocation"].history[0].ids)
    assert box.lacks(CASES["same-turn-goes-on"]) == "the engine keeps nothing between requests"
    assert box.lacks(CASES["b-after-a"]) == "one adapter is loaded at a time"


def test_an_engine_that_does_not_start_is_tried_once_and_decides_nothing() -> None:
    tried: list[str] = []

    def opening(adapter: str) -> Recording:
        tried.append(adapter)
        raise EngineError("no port is free")

    report = run_vectors(BlackBox(PEFT, opening, keeps=lambda engine: True), oracle=ORACLE)
    assert sorted(tried) == ["a", "b", "c"]
    assert (report.status(), report.exit_code()) == ("incomplete", 3)
    assert {
        one.error for one in (r.outcome for r in report.of(Unanswered)) if isinstance(one, Unanswered)
    } == {"no port is free"}


def test_an_engine_that_refuses_as_known_has_no_base_rows_to_compare() -> None:
    def opening(adapter: str) -> Recording:
        raise EngineRefusesError("vLLM does not support Activated LoRA (aLoRA).")

    report = run_vectors(BlackBox(VLLM, opening, keeps=lambda engine: True), oracle=ORACLE)
    assert report.status() == "known"
    assert {"base-plain", "base-with-an-invocation"} <= set(report.ids(NotApplicable))


def test_transformers_is_the_base_everywhere() -> None:
    groups = tuple(group for group in read_groups() if group.name in ("absent", "partial"))
    report = run_on("transformers", groups)
    expected = {case.id for group in groups for case in group.tests if case.rows[0].active_from is not None}
    assert set(report.ids(FailsAsKnown)) == expected != set()
    assert (report.status(), report.exit_code()) == ("known", 0)


@pytest.fixture(scope="module")
def llama() -> VectorReport:
    return run_on("llama-server")


def test_the_real_llama_server_deviates_as_known(llama: VectorReport) -> None:
    """Its own C++ on the shipped model: every number as its conventions predict, and nothing else wrong."""
    assert llama.status() == "known"
    assert not llama.news()
    expected = {
        result.case.id
        for result in llama.of(Agrees, FailsAsKnown)
        if as_served(result.case, LLAMA_SERVER) != by_rule(result.case)
    }
    assert set(llama.ids(FailsAsKnown)) == expected
    assert {"last-token-repeated", "second-turn-after-the-first", "once-in-the-middle"} <= expected
    assert "at-position-0" in llama.ids(Agrees)  # there is no token before it


def test_the_taint_of_its_cache_is_another_deviation_than_its_start(llama: VectorReport) -> None:
    notes = {
        result.case.id: result.outcome.note
        for result in llama.of(FailsAsKnown)
        if isinstance(result.outcome, FailsAsKnown)
    }
    tainted = {one for one, note in notes.items() if "whoever computed it" in note}
    assert tainted == {"position-0-after-the-base", "second-turn-after-the-first"}


def test_a_simulated_cache_that_is_cold_is_the_convention() -> None:
    case = CASES["once-in-the-middle"]
    assert as_served(case, LLAMA_SERVER) == (row_plan(case.rows[0], LLAMA_SERVER),)
