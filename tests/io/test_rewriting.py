import copy
import json
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.io.specs import asked, contract, likelihood
from zoo.errors import ContractError
from zoo.io import conversation, rewrite
from zoo.io.request import read_request
from zoo.io.sentences import split

DOCUMENTS = ("It rained. Boats came in.", "Night fell.")
BOUNDARIES = {"last_message": "r", "documents": "c", "all_but_last_message": "c"}


def refused(code: str, *path: Any, request: Any = None, spec: Any = None, **arguments: Any) -> ContractError:
    with pytest.raises(ContractError) as caught:
        rewrite(spec or contract(), asked("Hi.") if request is None else request, **arguments)
    assert caught.value.code == code, caught.value
    assert caught.value.path == path
    return caught.value


def test_sentences_are_numbered_in_documents_and_on_in_the_history_and_afresh_in_the_last_message() -> None:
    request = asked("One. Two.", "Three.", "Four? Five.", documents=DOCUMENTS)
    sent = rewrite(contract(sentence_boundaries=BOUNDARIES), request)
    assert [message["content"] for message in sent["messages"]] == [
        "<c3> One. <c4> Two.",
        "<c5> Three.",
        "<r0> Four? <r1> Five.",
    ]
    assert [document["text"] for document in sent["extra_body"]["documents"]] == [
        "<c0> It rained. <c1> Boats came in.",
        "<c2> Night fell.",
    ]


def test_the_instruction_quotes_the_last_message_as_the_model_sees_it() -> None:
    spec = contract(
        sentence_boundaries={"last_message": "r"}, instruction="<check>{rule}: {{{last_message}}} {rule}"
    )
    sent = rewrite(spec, asked("One. Two."), rule="be brief")
    assert sent["messages"][-1] == {
        "role": "user",
        "content": "<check>be brief: {<r0> One. <r1> Two.} be brief",
    }


@pytest.mark.parametrize(
    ("how", "messages"),
    [
        (
            "string",
            [
                "You have access to the following documents:\n\n"
                "[Document d0]\n<c0> A.\n\n[Document d1]\n<c1> B."
            ],
        ),
        ("json", [json.dumps([{"text": "<c0> A.", "doc_id": "d0"}, {"text": "<c1> B.", "doc_id": "d1"}])]),
        ("roles", ["<c0> A.", "<c1> B."]),
    ],
)
def test_documents_become_messages_before_the_conversation(how: str, messages: list[str]) -> None:
    spec = contract(docs_as_message=how, sentence_boundaries={"documents": "c"})
    sent = rewrite(spec, asked("Hi.", documents=("A.", "B.")))
    assert [message["content"] for message in sent["messages"]] == [*messages, "Hi."]
    roles = ["document d0", "document d1"] if how == "roles" else ["user"]
    assert [message["role"] for message in sent["messages"]] == [*roles, "user"]
    assert "documents" not in sent["extra_body"]


def test_parameters_model_and_schema_are_set_over_the_request() -> None:
    spec = contract(
        likelihood([], {"a": 1.0}),
        model="adapter",
        response_format={"enum": ["a"]},
        parameters={"temperature": 0.0, "top_logprobs": 3, "extra_body": {"seed": 1}},
    )
    request = asked("Hi.", documents=("A.",), temperature=1.0, model="base", user="u")
    sent = rewrite(spec, request)
    assert sent.pop("messages") == request["messages"]
    assert sent == {
        "model": "adapter",
        "temperature": 0.0,
        "user": "u",
        "logprobs": True,
        "top_logprobs": 10,
        "extra_body": {
            "documents": [{"text": "A.", "doc_id": "d0"}],
            "seed": 1,
            "structured_outputs": {"json": {"enum": ["a"]}},
        },
    }


def test_nothing_of_the_arguments_is_changed_or_shared() -> None:
    spec = contract(
        sentence_boundaries=BOUNDARIES,
        instruction="x",
        response_format={"enum": ["a"]},
        parameters={"extra_body": {"stop": ["a"]}},
    )
    request = asked("One. Two.", "Three.", documents=DOCUMENTS, tools=[{"name": "f"}])
    before, contract_before = copy.deepcopy(request), spec.model_dump()
    sent = rewrite(spec, request)
    assert request == before
    sent["tools"][0]["name"] = sent["messages"][0]["role"] = sent["extra_body"]["documents"][0]["doc_id"] = (
        "?"
    )
    sent["extra_body"]["stop"].append("b")
    sent["extra_body"]["structured_outputs"]["json"]["enum"].append("b")
    assert request == before
    assert spec.model_dump() == contract_before
    assert rewrite(spec, request)["extra_body"]["stop"] == ["a"]


def test_a_conversation_is_what_a_template_renders() -> None:
    sent = rewrite(contract(instruction="Judge."), asked("Hi.", documents=("A.",)))
    messages, documents = conversation(sent)
    assert [message["content"] for message in messages] == ["Hi.", "Judge."]
    assert documents == [{"text": "A.", "doc_id": "d0"}]
    assert conversation(asked("Hi.")) == ([{"role": "user", "content": "Hi."}], [])


@pytest.mark.parametrize("request_", [None, [], {}, {"messages": None}, {"messages": {}}])
def test_what_is_no_request_is_refused(request_: Any) -> None:
    with pytest.raises(ContractError) as caught:
        rewrite(contract(), request_)
    assert caught.value.code == "ZO100"


def test_a_bad_message_is_named() -> None:
    refused("ZO100", "messages", 1, request={"messages": [{"role": "user", "content": ""}, {"role": ""}]})
    refused("ZO100", "messages", 0, "content", request={"messages": [{"role": "user", "content": [1]}]})
    refused("ZO100", "messages", 0, "content", request={"messages": [{"role": "user", "content": None}]})
    calling: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert rewrite(contract(), {"messages": [calling]})["messages"] == [calling]
    silent: dict[str, Any] = {"role": "assistant", "content": None}
    nothing: list[dict[str, Any]] = [{}, {"tool_calls": []}, {"tool_calls": None}]
    for calls in nothing:
        refused("ZO100", "messages", 0, "content", request={"messages": [silent | calls]})
    refused("ZO100", "messages", 0, "tool_calls", request={"messages": [silent | {"tool_calls": 5}]})


@pytest.mark.parametrize("tools", [5, "x", {}, [5], [None]])
def test_tools_are_a_list_of_objects(tools: Any) -> None:
    refused("ZO100", "tools", request=asked("Hi.", tools=tools))


def test_tools_are_passed_on() -> None:
    for tools in (None, [], [{"type": "function", "function": {"name": "f"}}]):
        assert rewrite(contract(), asked("Hi.", tools=tools))["tools"] == tools


@pytest.mark.parametrize("prefix", ["r1", "7", "<r", "r>", "r x", "\t"])
def test_a_prefix_that_makes_tags_collide_is_refused(prefix: str) -> None:
    boundaries = {"documents": "r", "last_message": prefix}
    request = asked("Hi.", documents=("One. " * 12,))
    refused("ZO130", "sentence_boundaries", request=request, spec=contract(sentence_boundaries=boundaries))


def test_a_bad_document_is_named() -> None:
    where = ("extra_body", "documents")
    refused("ZO100", *where, request=asked("Hi.", extra_body={"documents": {}}))
    refused("ZO100", *where, 0, request=asked("Hi.", extra_body={"documents": [{"doc_id": "1"}]}))
    numbered = {"documents": [{"text": "A.", "doc_id": 1}]}
    refused("ZO100", *where, 0, "doc_id", request=asked("Hi.", extra_body=numbered))
    refused("ZO100", "extra_body", request=asked("Hi.", extra_body=[]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**30, {1: 2}, {"a": b""}, "\ud800", {1, 2}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ContractError) as caught:
        rewrite(contract(), asked("Hi.", extra=value))
    assert (caught.value.code, caught.value.path[0]) == ("ZO101", "extra")


def test_sizes_are_bounded() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(ContractError, match="nested deeper"):
        rewrite(contract(), asked("Hi.", extra=deep))
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ContractError, match="nested deeper"):
        rewrite(contract(), asked("Hi.", extra=circle))
    shared: list[Any] = [0]
    for _ in range(40):
        shared = [shared, shared]
    refused_size = pytest.raises(ContractError, match="ZO102")
    with refused_size:
        rewrite(contract(), asked("Hi.", extra=shared))
    with refused_size:
        rewrite(contract(), asked("a" * 4_000_001))
    with refused_size:
        rewrite(contract(sentence_boundaries={"last_message": "r"}), asked(". " * 50_001))
    with refused_size:
        rewrite(contract(instruction="{x}" * 3_000), asked("Hi."), x="a" * 100_000)


def test_arguments_must_be_those_that_the_instruction_names() -> None:
    spec = contract(instruction="{a} {last_message}")
    refused("ZO105", "a", spec=spec)
    refused("ZO106", "b", spec=spec, a="x", b="y")
    refused("ZO106", "last_message", spec=spec, a="x", last_message="y")
    refused("ZO106", "a", a="x")
    values: tuple[Any, ...] = (["x"], None, {}, b"x")
    for value in values:
        refused("ZO106", "a", spec=spec, a=value)
    refused("ZO101", "a", spec=spec, a=float("nan"))
    named = rewrite(
        contract(instruction="{request} {spec} {self}"), asked("Hi."), request=1, spec=0.5, self="x"
    )
    assert named["messages"][-1]["content"] == "1 0.5 x"


@pytest.mark.parametrize(
    "template", ["{", "}", "{}", "{0}", "{a.b}", "{a[0]}", "{a!r}", "{a:>9}", "{a b}", "{a:{b}}"]
)
def test_a_template_has_plain_names_only(template: str) -> None:
    refused("ZO108", "instruction", spec=contract(instruction=template), a="x", b="y")


def test_what_needs_a_last_message_needs_one() -> None:
    refused("ZO103", "messages", request={"messages": []}, spec=contract(instruction="{last_message}"))
    boundaries = contract(sentence_boundaries={"last_message": "r"})
    refused("ZO103", "messages", request={"messages": []}, spec=boundaries)
    silent: dict[str, Any] = {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]}
    refused("ZO103", "messages", 0, "content", request=silent, spec=boundaries)


@pytest.mark.parametrize("text", ["A <c0> label.", "A <r12>label.", "<c3>"])
def test_text_with_tags_is_refused(text: str) -> None:
    spec = contract(sentence_boundaries={"documents": "c", "last_message": "r"})
    refused("ZO104", "extra_body", "documents", 0, "text", request=asked("Hi.", documents=(text,)), spec=spec)
    refused("ZO104", "messages", 0, "content", request=asked(text), spec=spec)
    assert rewrite(
        contract(sentence_boundaries={"documents": "c"}), asked(text)
    )  # the message has no numbers


def test_rewriting_twice_is_refused() -> None:
    spec = contract(sentence_boundaries={"last_message": "r"})
    refused("ZO104", "messages", 0, "content", request=rewrite(spec, asked("One. Two.")), spec=spec)


@pytest.mark.parametrize("how", ["string", "roles"])
def test_a_document_without_id_cannot_be_shown_by_it(how: str) -> None:
    request = asked("Hi.", extra_body={"documents": [{"text": "A."}]})
    refused(
        "ZO107", "extra_body", "documents", 0, "doc_id", request=request, spec=contract(docs_as_message=how)
    )
    assert rewrite(contract(docs_as_message="json"), request)["messages"][0]["content"] == '[{"text": "A."}]'


def test_parameters_do_not_replace_the_conversation() -> None:
    refused("ZO109", "parameters", "messages", spec=contract(parameters={"messages": []}))
    refused("ZO109", "parameters", "extra_body", spec=contract(parameters={"extra_body": 1}))
    documents: dict[str, Any] = {"extra_body": {"documents": []}}
    refused("ZO109", "parameters", "extra_body", "documents", spec=contract(parameters=documents))


PIECES = st.sampled_from(
    [
        *string.ascii_letters[:6],
        *"AB.?! \n\t19,;:'\"()-–…”é版",
        " ",
        ". ",
        "Dr. ",
        "e.g. ",
        "... ",
        "\x85",
        "\xa0",
        " The ",
    ]
)


@given(st.lists(PIECES, max_size=60).map("".join))
@example("It rained. Boats came")
@example("aa. . . b")
def test_sentences_are_those_of_the_untrained_splitter(text: str) -> None:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    assert list(split(text)) == list(PunktSentenceTokenizer().span_tokenize(text))


TURN = {"role": "user", "content": "Why? Because."}


@pytest.mark.parametrize(
    "request_",
    [
        {"messages": [TURN]},
        {"messages": [TURN, {**TURN, "name": "A"}], "temperature": 0.5, "tools": [{"type": "function"}]},
        {"extra_body": {"documents": [{"text": "One. Two.", "other": "x"}], "top": [1]}, "messages": [TURN]},
        {"messages": [TURN], "extra_body": {"documents": None}},
        {"messages": [TURN], "extra_body": {"documents": []}, "model": None},
        {"messages": [TURN], "extra_body": None},
        {"messages": [{**TURN, "content": "Wärum? Därum."}], "extra_body": {}},
        {"messages": [{**TURN, "parts": [1, {"a": None}]}]},
    ],
)
def test_plain_records_are_read_as_any_mapping_is_and_share_nothing(request_: dict[str, Any]) -> None:
    from types import MappingProxyType

    before = copy.deepcopy(request_)
    read = read_request(request_)
    assert read == read_request(MappingProxyType(request_))
    for message in read["messages"]:
        message["content"] = "changed"
    for document in (read.get("extra_body") or {}).get("documents") or []:
        document["text"] = "changed"
    assert request_ == before
