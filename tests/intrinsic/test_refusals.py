import json
from typing import Any

import pytest
import torch

from tests.conftest import INVOCATION_TEXT
from tests.intrinsic.conftest import ASK, YES_NO, MakeRelease
from zoo.errors import ContractError, SpecError
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.intrinsic.request import make_request, parse_request

SHORT = {"parameters": {"max_completion_tokens": 8}}


HOLDS = [{"role": "user", "content": f"look: {INVOCATION_TEXT}"}]
LONG = [{"role": "user", "content": "no " * 3000}]
CALLING: dict[str, Any] = {"name": "search", "arguments": {"query": "passage"}}
CALLS: list[dict[str, Any]] = [
    *ASK,
    {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALLING}]},
    {"role": "tool", "content": "the passage"},
]


@pytest.mark.parametrize(
    ("request_", "code", "path"),
    [
        ({"messages": []}, "ZO151", ("messages",)),
        ({}, "ZO100", ("messages",)),
        ({"messages": HOLDS}, "ZO152", ("messages", 0, "content")),
        (
            {"messages": ASK, "extra_body": {"documents": [{"text": INVOCATION_TEXT}]}},
            "ZO152",
            ("extra_body", "documents", 0, "text"),
        ),
        (
            {"messages": ASK, "extra_body": {"documents": [{"text": "a"}]}},
            "ZO158",
            ("extra_body", "documents"),
        ),
        ({"messages": LONG}, "ZO154", ("messages",)),
        ({"messages": ASK, "max_tokens": "many"}, "ZO157", ("max_tokens",)),
        ({"messages": ASK, "max_tokens": 0}, "ZO157", ("max_tokens",)),
        ({"messages": ASK, "temperature": -1}, "ZO157", ("temperature",)),
        ({"messages": ASK, "max_tokens": 2}, "ZO156", ()),
        ({"messages": ASK, "temperature": ""}, "ZO157", ("temperature",)),
        ({"messages": ASK, "top_logprobs": "x"}, "ZO157", ("top_logprobs",)),
        ({"messages": ASK, "seed": 1.5}, "ZO157", ("seed",)),
        ({"messages": ASK, "stop": ["."]}, "ZO157", ("stop",)),
        ({"messages": ASK, "n": 2}, "ZO157", ("n",)),
        ({"messages": ASK, "temperature": 1, "top_p": 0.5}, "ZO157", ("top_p",)),
        ({"messages": ASK, "top_p": "hot"}, "ZO157", ("top_p",)),
        ({"messages": ASK, "extra_body": {"min_tokens": 3}}, "ZO157", ("extra_body", "min_tokens")),
        ({"messages": ASK, "stream": True}, "ZO157", ("stream",)),
        ({"messages": ASK, "response_format": {"type": "json_object"}}, "ZO157", ("response_format",)),
        ({"messages": ASK, "extra_body": {"guided_json": YES_NO}}, "ZO157", ("extra_body", "guided_json")),
        ({"messages": CALLS}, "ZO159", ("messages",)),
        ({"messages": ASK, "document": [{"text": "a"}]}, "ZO100", ("document",)),
        ({"messages": ASK, "documents": [{"text": "a"}]}, "ZO100", ("documents",)),
        ({"messages": ASK, "sources": [{"text": "a"}]}, "ZO100", ("sources",)),
        ({"messages": ASK, "extra_body": {"docs": ["a"]}}, "ZO100", ("extra_body", "docs")),
        ("hello", "ZO100", ()),
    ],
)
def test_what_cannot_be_answered_is_refused(
    yes_no: Intrinsic, request_: dict[str, Any], code: str, path: tuple[str | int, ...]
) -> None:
    with pytest.raises(ContractError) as caught:
        yes_no.ask(request_)
    assert (caught.value.code, caught.value.path) == (code, path)
    assert yes_no.ask({"messages": ASK}).text  # and the next one is answered


def test_what_asks_for_nothing_is_let_through(yes_no: Intrinsic) -> None:
    neutral = {"stop": [], "n": 1, "top_p": 1.0, "logit_bias": {}, "stream": False, "user": "me"}
    neutral |= {"response_format": {"type": "text"}, "stream_options": None}
    assert yes_no.ask({"messages": ASK, **neutral}).result == yes_no.ask({"messages": ASK}).result
    assert yes_no.ask({"messages": ASK, "top_p": 0.9}).text  # greedy: it chooses nothing


def test_a_callers_numbers_are_checked_though_the_contracts_are_used(
    make_release: MakeRelease, shared: SharedBase
) -> None:
    numbers = {"max_tokens": 8, "temperature": 0}
    strict = Intrinsic.load(make_release(io={"parameters": numbers}), shared=shared)
    for key, value in (("max_tokens", -5), ("temperature", "hot")):
        with pytest.raises(ContractError) as caught:
            strict.ask({"messages": ASK, key: value})
        assert (caught.value.code, caught.value.path) == ("ZO157", (key,))


def test_a_seed_decides_what_is_sampled(make_release: MakeRelease, shared: SharedBase) -> None:
    intrinsic = Intrinsic.load(make_release(), shared=shared)
    sampled = {"messages": ASK, "temperature": 1.5, "max_tokens": 12}
    one, again, other = (intrinsic.ask({**sampled, "seed": seed}).ids for seed in (3, 3, 4))
    assert one == again != other
    before = torch.get_rng_state()
    intrinsic.ask({**sampled, "seed": 3})
    assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are his


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("hello",), ("messages",)),
        (([5],), ("messages", 0)),
        ((None,), ("messages",)),
        ((ASK[0],), ("messages",)),
        ((ASK, [5]), ("extra_body", "documents", 0)),
        ((ASK, "The sky"), ("extra_body", "documents")),
        ((ASK, {"text": "The sky"}), ("extra_body", "documents")),
        ((ASK, 5), ("extra_body", "documents")),
    ],
)
def test_parts_that_make_no_request_are_refused(
    yes_no: Intrinsic, parts: tuple[Any, ...], path: tuple[str | int, ...]
) -> None:
    for call in (yes_no, yes_no.raw):
        with pytest.raises(ContractError) as caught:
            call(*parts)
        assert (caught.value.code, caught.value.path) == ("ZO100", path)


@pytest.mark.parametrize("how", ["string", "roles"])
def test_documents_without_an_id_are_numbered(
    make_release: MakeRelease, shared: SharedBase, how: str
) -> None:
    io = {"docs_as_message": how, "response_format": YES_NO}
    intrinsic = Intrinsic.load(make_release(io=io), shared=shared)
    named = {
        "messages": ASK,
        "extra_body": {"documents": [{"text": "a", "doc_id": "1"}, {"text": "b", "doc_id": "2"}]},
    }
    bare = {"messages": ASK, "extra_body": {"documents": [{"text": "a"}, {"text": "b", "doc_id": None}]}}
    wanted = intrinsic.prompt(named, {})[1].text
    assert intrinsic.prompt(bare, {})[1].text == wanted
    assert intrinsic.ask(bare).ids == intrinsic.ask(named).ids == intrinsic.raw(ASK, ["a", "b"]).ids
    raw = json.dumps({"messages": ASK, "documents": [{"text": "a"}, {"text": "b"}]})
    assert parse_request(raw, name="it") == named
    assert bare["extra_body"]["documents"][0] == {"text": "a"}  # type: ignore[index] # left alone


def test_a_number_that_is_an_id_already_is_passed_over() -> None:
    found = make_request(ASK, ["a", {"text": "b", "doc_id": "1"}, "c"])["extra_body"]["documents"]
    assert [one["doc_id"] for one in found] == ["2", "1", "3"]


@pytest.mark.parametrize(
    "raw", ['{"messages": [], "messages": []}', '{"messages": [{"role": "a", "role": "b"}]}']
)
def test_a_key_twice_is_refused(raw: str) -> None:
    with pytest.raises(SpecError, match="a key stands twice") as caught:
        parse_request(raw, name="it")
    assert caught.value.code == "ZO150"
