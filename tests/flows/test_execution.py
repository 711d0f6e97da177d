import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.flows.conftest import EXAMPLE
from zoo.errors import ContractError
from zoo.flows.execution import Answered, Call, FlowRun, run_flow
from zoo.flows.request import FlowRequest, read_request
from zoo.specs.flow import FlowSpec, Step
from zoo.specs.flow_file import parse_flow, read_flow

CAREFUL = read_flow(EXAMPLE / "flow.yaml").spec
REQUEST = read_request(
    {
        "messages": [
            {"role": "user", "content": "Who wrote Emma?"},
            {"role": "assistant", "content": "Jane Austen."},
            {"role": "user", "content": "And when?"},
        ],
        "documents": [{"text": "Emma came out in 1815."}],
    }
)
ANSWERS = {
    "rewrite": {"rewritten_question": "When was Emma written?"},
    "answerable": {"answerability": "answerable"},
    "answer": "In 1815.",
    "citations": [{"citation_text": "Emma came out in 1815."}],
    "check": {"faithfulness": 0.9},
}


class Scripted:
    """Answers steps from a table and remembers what they were called with."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {**ANSWERS, **answers}
        self.calls: dict[str, Call] = {}

    def __call__(self, step: Step, call: Call) -> Answered:
        self.calls[step.id] = call
        result = self.answers[step.id]
        if isinstance(result, Exception):
            raise result
        return Answered(result=result, text=json.dumps(result))


def states(run: FlowRun) -> dict[str, str]:
    return {record.id: record.state for record in run.steps}


def flow(steps: str, output: str = "{response: answer}") -> FlowSpec:
    text = f"format: 1\nname: f\nsteps:\n{steps}\noutput: {output}\n"
    return parse_flow(text.encode(), name="flow.yaml").spec


def test_each_step_gets_what_the_file_says() -> None:
    scripted = Scripted()

    run = run_flow(CAREFUL, REQUEST, scripted)

    assert run.output == {"response": "In 1815.", "citations": ANSWERS["citations"]}
    assert not run.abstained
    assert set(states(run).values()) == {"ran"}
    rewritten = [*REQUEST.messages[:2], {"role": "user", "content": "When was Emma written?"}]
    assert list(scripted.calls["rewrite"].messages) == list(REQUEST.messages)
    assert list(scripted.calls["answerable"].messages) == rewritten
    assert list(scripted.calls["check"].messages) == [
        *rewritten,
        {"role": "assistant", "content": "In 1815."},
    ]
    assert all(list(call.documents) == list(REQUEST.documents) for call in scripted.calls.values())


def test_it_abstains_and_nothing_after_runs() -> None:
    scripted = Scripted(answerable={"answerability": "unanswerable"})

    run = run_flow(CAREFUL, REQUEST, scripted)

    assert run.abstained
    assert run.output == {"response": "The documents do not say.", "citations": None}
    assert states(run) == {
        "rewrite": "ran",
        "answerable": "ran",
        "answer": "abstained",
        "citations": "not reached",
        "check": "not reached",
    }
    assert 'it is "unanswerable"' in run.steps[2].reason
    assert scripted.calls.keys() == {"rewrite", "answerable"}


def test_a_step_left_out_leaves_the_request_as_it_was() -> None:
    scripted = Scripted()
    run = run_flow(CAREFUL, REQUEST, scripted, left_out={"rewrite"})
    assert states(run)["rewrite"] == "left out"
    assert list(scripted.calls["answerable"].messages) == list(REQUEST.messages)


def test_a_condition_on_a_step_left_out_is_dropped() -> None:
    scripted = Scripted(answerable={"answerability": "unanswerable"})
    run = run_flow(CAREFUL, REQUEST, scripted, left_out={"answerable"})
    assert not run.abstained
    assert "answerable" not in scripted.calls


def test_a_step_that_wants_the_answer_does_not_run_without_it() -> None:
    run = run_flow(CAREFUL, REQUEST, Scripted(), left_out={"answer"})
    assert states(run)["citations"] == states(run)["check"] == "skipped"
    assert run.response is None
    assert run.abstained


def test_a_base_that_says_nothing_has_given_no_answer() -> None:
    run = run_flow(CAREFUL, REQUEST, Scripted(answer=" \n"))
    assert run.abstained
    assert states(run)["answer"] == "silent"
    assert states(run)["citations"] == "skipped"
    assert run.steps[2].answered is not None


CONSTANT = """
  - {id: kind, use: ./a}
  - {id: extra, use: ./b, when: kind.label == "long", otherwise: {result: []}}
  - {id: side, use: ./c, when: kind.label == "long"}
  - {id: after, use: ./d, when: side.x == 1}
  - {id: answer, use: base}
"""


def test_a_constant_stands_for_a_result_and_a_skipped_step_has_none() -> None:
    spec = flow(CONSTANT, "{response: answer, extra: extra, side: side}")
    run = run_flow(spec, REQUEST, Scripted(kind={"label": "short"}))
    assert run.output == {"response": "In 1815.", "extra": [], "side": None}
    assert states(run) == {
        "kind": "ran",
        "extra": "constant",
        "side": "skipped",
        "after": "skipped",
        "answer": "ran",
    }
    assert run.steps[3].reason == "side gave nothing"


def test_arguments_and_documents_from_results_and_constants() -> None:
    steps = """
  - {id: pick, use: ./a, input: {documents: []}}
  - id: answer
    use: ./b
    input:
      documents: pick.kept
      arguments: {of: request.arguments.of, n: {value: 3}, first: pick.kept.0.text}
"""
    scripted = Scripted(pick={"kept": [{"text": "One."}]})
    request = FlowRequest(messages=REQUEST.messages, documents=REQUEST.documents, arguments={"of": "books"})

    run_flow(flow(steps), request, scripted)

    assert list(scripted.calls["pick"].documents) == []
    assert list(scripted.calls["answer"].documents) == [{"text": "One."}]
    assert scripted.calls["answer"].arguments == {"of": "books", "n": 3, "first": "One."}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"rewrite": {"question": "x"}}, "rewrite.rewritten_question is not there"),
        ({"rewrite": {"rewritten_question": None}}, "last_user is null"),
        ({"rewrite": {"rewritten_question": "  "}}, "a text is wanted"),
        ({"rewrite": "text"}, "is not there"),
        ({"answer": {"text": "x"}}, "a text is wanted"),
    ],
)
def test_a_result_that_has_not_the_form_is_an_error_with_its_path(
    answers: Mapping[str, Any], words: str
) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        run_flow(CAREFUL, REQUEST, Scripted(**answers))
    assert caught.value.code == "ZO314"
    assert caught.value.path


def test_an_order_asked_of_a_text_is_an_error() -> None:
    spec = flow("  - {id: kind, use: ./a}\n  - {id: answer, use: base, when: kind.score > 0.5}")
    with pytest.raises(ContractError, match="orders numbers"):
        run_flow(spec, REQUEST, Scripted(kind={"score": "0.7"}))


def test_a_conversation_without_a_user() -> None:
    request = FlowRequest(messages=({"role": "system", "content": "Be brief."},))
    with pytest.raises(ContractError, match="there is none"):
        run_flow(CAREFUL, request, Scripted())


def test_a_run_does_not_change_the_request() -> None:
    before = json.dumps(REQUEST.as_value())
    run_flow(CAREFUL, REQUEST, Scripted())
    assert json.dumps(REQUEST.as_value()) == before


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], ()),
        ({}, ("messages",)),
        ({"messages": []}, ("messages",)),
        ({"messages": ["x"]}, ("messages", 0)),
        ({"messages": [{"role": "user", "content": 1}]}, ("messages", 0)),
        ({"messages": [{"role": "", "content": "x"}]}, ("messages", 0)),
        ({"messages": [{"role": "user", "content": "x"}], "documents": {}}, ("documents",)),
        ({"messages": [{"role": "user", "content": "x"}], "documents": ["x"]}, ("documents", 0)),
        ({"messages": [{"role": "user", "content": "x"}], "arguments": 3}, ("arguments",)),
    ],
)
def test_what_is_no_request(document: object, path: tuple[str | int, ...]) -> None:
    with pytest.raises(ContractError) as caught:
        read_request(document)
    assert caught.value.code == "ZO313"
    assert caught.value.path == path


def test_documents_of_a_chat_completions_request() -> None:
    request = read_request(
        {"messages": [{"role": "user", "content": "x"}], "extra_body": {"documents": [{"text": "d"}]}}
    )
    assert request.documents == ({"text": "d"},)
