import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import EXAMPLE, Edit
from zoo.errors import ContractError, SpecError, UndecidedError, UsageError
from zoo.flows.account import account, render_account, to_document
from zoo.flows.controls import variants
from zoo.flows.data import Row, read_rows
from zoo.flows.execution import Answered, Call
from zoo.flows.measure import Measured, measure
from zoo.flows.records import Records
from zoo.specs.flow import FlowSpec, Step
from zoo.specs.flow_file import parse_flow, read_flow

CAREFUL = read_flow(EXAMPLE / "flow.yaml").spec


def line(text: str, *, answerable: bool, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "documents": [{"text": "A."}], "answerable": answerable, **more}


def write(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


class Model:
    """A world with known counts.

    A query says what would happen to it: `vague` ones are taken for unanswerable unless they are rewritten,
    `lost` ones always; what is answered without need is unfaithful.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def __call__(self, step: Step, call: Call) -> Answered:
        self.asked[step.id] += 1
        question = [message["content"] for message in call.messages if message["role"] == "user"][-1]
        if "broken" in question and step.id == "answerable":
            raise ContractError("the reply breaks its schema", code="ZO110")
        result: Any = {
            "rewrite": {"rewritten_question": question.replace("vague", "clear")},
            "answerable": {
                "answerability": "unanswerable" if {"vague", "lost"} & {*question.split()} else "answerable"
            },
            "answer": f"About {question}",
            "citations": [],
            "check": {"faithfulness": 0.5 if "vague" in question else 0.8},
        }[step.id]
        return Answered(result=result, text="")


# 10 queries: 4 clear and 2 vague ones are answerable; 3 lost ones and a clear one are not.
LINES = [
    *[line(f"clear {n}", answerable=True) for n in range(4)],
    *[line(f"vague {n}", answerable=True) for n in range(2)],
    *[line(f"lost {n}", answerable=False) for n in range(3)],
    line("clear trap", answerable=False),
]
# By hand, in tenths:
#   flow: 6 answered at .8, 3 abstained rightly                    -> 4.8 + 3
#   without rewrite: 4 at .8; vague ones abstained on; 3 rightly   -> 3.2 + 3
#   without answerable: 6 at .8; lost ones answered                -> 4.8
#   bare: 4 at .8, 2 vague at .5                                   -> 3.2 + 1
BY_HAND = {
    "flow": 0.78,
    "without rewrite": 0.62,
    "without answerable": 0.48,
    "without citations": 0.78,
    "bare": 0.42,
}


def run(lines: list[Any], folder: Path, spec: FlowSpec = CAREFUL, **given: Any) -> tuple[list[Row], Measured]:
    rows = read_rows(write(folder / "data.jsonl", lines))
    return rows, measure(spec, rows, given.pop("model", Model()), records=given.pop("records", Records()))


def test_the_flow_and_its_controls_come_to_what_the_counts_give(tmp_path: Path) -> None:
    rows, measured = run(LINES, tmp_path)
    found = account(CAREFUL, rows, measured)

    jafs = {name: figure.jafs.value for name, figure in found.figures.items() if figure.jafs}
    assert jafs == pytest.approx(BY_HAND)
    assert found.figures["flow"].answered == 7
    assert found.figures["flow"].answered_answerable == 6
    assert found.figures["bare"].answered == 10
    gain = found.gains["without rewrite"]
    assert gain is not None
    assert gain.value == pytest.approx(0.16)
    assert found.abstaining == pytest.approx(0.4)
    assert found.exit_code == 0


def test_the_controls_of_the_example() -> None:
    found = {variant.name: variant for variant in variants(CAREFUL)}
    assert list(found) == list(BY_HAND)
    assert found["bare"].left_out == {"rewrite", "answerable", "citations"}
    assert [name for name, variant in found.items() if variant.same] == ["without citations"]


def test_what_is_called_with_the_same_input_is_answered_once(tmp_path: Path) -> None:
    model = Model()
    run([line("clear 1", answerable=True)], tmp_path, model=model)
    # the rewriter changes nothing here, so five flows ask each step the same
    assert model.asked == {"rewrite": 1, "answerable": 1, "answer": 1, "check": 1}


def test_a_step_that_breaks_its_contract_fails_the_query_and_not_the_run(tmp_path: Path) -> None:
    lines = [line("clear 1", answerable=True), line("broken 1", answerable=True)]
    rows, measured = run(lines, tmp_path)
    found = account(CAREFUL, rows, measured)

    assert found.figures["flow"].failed == 1
    assert found.figures["flow"].jafs is not None
    assert found.figures["flow"].jafs.value == pytest.approx(0.4)
    assert found.figures["without answerable"].failed == 0
    assert "ZO110" in render_account(found)

    rows, measured = run(lines[1:], tmp_path)
    assert account(CAREFUL, rows, measured).exit_code == 1


def test_steps_that_want_what_is_left_out_are_named() -> None:
    text = """
format: 1
name: f
steps:
  - {id: hint, use: ./a}
  - {id: note, use: ./b, input: {assistant: hint.text}}
  - {id: answer, use: base, when: note.ok == true, otherwise: {abstain: "No."}}
output: {response: answer}
"""
    found = {variant.name: variant for variant in variants(parse_flow(text.encode(), name="f").spec)}
    assert found["without hint"].silent == ("note",)
    assert found["without note"].silent == ()


# ---------------------------------------------------------------- faithfulness from the data


GIVEN = CAREFUL.model_copy(update={"score": FlowSpec.model_fields["score"].default})


def test_numbers_of_an_outside_judge(tmp_path: Path) -> None:
    each = {
        "flow": 0.9,
        "without rewrite": 0.1,
        "without answerable": 0.9,
        "without citations": 0.9,
        "bare": 0.1,
    }
    rows, measured = run([line("clear 1", answerable=True, faithfulness=each)], tmp_path, GIVEN)
    found = account(GIVEN, rows, measured)
    jafs = {name: figure.jafs.value for name, figure in found.figures.items() if figure.jafs}
    assert jafs == pytest.approx(each)
    assert "the field `faithfulness` of the data" in found.faithfulness


def test_one_number_for_different_responses_is_said(tmp_path: Path) -> None:
    rows, measured = run([line("vague 1", answerable=True, faithfulness=0.9)], tmp_path, GIVEN)
    assert "one faithfulness" in render_account(account(GIVEN, rows, measured))

    rows, measured = run([line("clear 1", answerable=True, faithfulness=0.9)], tmp_path, GIVEN)
    assert "one faithfulness" not in render_account(account(GIVEN, rows, measured))


def test_without_a_faithfulness_the_score_is_not_known(tmp_path: Path) -> None:
    rows, measured = run(
        [line("clear 1", answerable=True), line("lost 1", answerable=False)], tmp_path, GIVEN
    )
    found = account(GIVEN, rows, measured)
    assert found.figures["flow"].jafs is None
    assert found.exit_code == 3
    assert "unknown: 0.500 to 1.000" in render_account(found)


@pytest.mark.parametrize("value", [87, -0.1, "high", True, [0.5, 2]])
def test_what_is_no_faithfulness(value: object, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="line 1 of the data") as caught:
        run([line("clear 1", answerable=True, faithfulness=value)], tmp_path, GIVEN)
    assert caught.value.code == "ZO311"


def test_labels_of_sentences_have_their_values(edited: Edit, tmp_path: Path) -> None:
    score = 'check.*.label\n  values: {faithful: 1, partial: 0.5, unfaithful: 0, "NA": null}'
    spec = read_flow(edited("check.faithfulness", score) / "flow.yaml").spec

    class Labels(Model):
        def __call__(self, step: Step, call: Call) -> Answered:
            if step.id == "check":
                return Answered(result=[{"label": one} for one in ("faithful", "partial", "NA")], text="")
            return super().__call__(step, call)

    _, measured = run([line("clear 1", answerable=True)], tmp_path, spec, model=Labels())
    assert measured.outcomes["flow"][0].faithfulness == 0.75

    least = spec.model_copy(update={"score": spec.score.model_copy(update={"over": "min"})})
    _, measured = run([line("clear 1", answerable=True)], tmp_path, least, model=Labels())
    assert measured.outcomes["flow"][0].faithfulness == 0.5


# ---------------------------------------------------------------- records


class DiesAfter(Model):
    """Answers so many calls, then the machine fails."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def __call__(self, step: Step, call: Call) -> Answered:
        self.left -= 1
        if self.left < 0:
            raise UndecidedError("out of memory")
        return super().__call__(step, call)


def test_a_run_that_was_cut_off_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    kept = tmp_path / "records.jsonl"
    rows, whole = run(LINES, tmp_path)
    first = Records.open(kept, {"flow": "x"})
    with pytest.raises(UndecidedError):
        run(LINES, tmp_path, model=DiesAfter(23), records=first)
    first.close()
    with kept.open("ab") as stream:
        stream.write(b'{"row": "cut of')  # killed while it wrote

    second, model = Records.open(kept, {"flow": "x"}), Model()
    _, resumed = run(LINES, tmp_path, model=model, records=second)
    second.close()

    assert second.resumed > 5
    assert model.asked.total() < 40
    assert account(CAREFUL, rows, resumed) == account(CAREFUL, rows, whole)
    third, idle = Records.open(kept, {"flow": "x"}), Model()
    run(LINES, tmp_path, model=idle, records=third)
    third.close()
    assert not idle.asked


def test_records_of_another_run(tmp_path: Path) -> None:
    kept = tmp_path / "records.jsonl"
    Records.open(kept, {"flow": "x", "base": "b"}).close()
    with pytest.raises(UsageError, match="another flow") as caught:
        Records.open(kept, {"flow": "y", "base": "b"})
    assert caught.value.code == "ZO312"


@pytest.mark.parametrize(
    "content", [b"{}\n", b"not json\n", b'{"format": 1, "settings": {}}\n{"a": 1}\n', b"[1]\n"]
)
def test_what_are_no_records(content: bytes, tmp_path: Path) -> None:
    kept = tmp_path / "records.jsonl"
    kept.write_bytes(content)
    with pytest.raises(UsageError):
        Records.open(kept, {})
    assert kept.read_bytes() == content


# ---------------------------------------------------------------- data


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "holds no lines"),
        ([[]], "line 1 is not an object"),
        ([{"messages": []}], "has no `answerable`"),
        ([line("x", answerable=True) | {"answerable": "yes"}], "neither true nor false"),
        ([line("x", answerable=True) | {"messages": []}], "no good request"),
        ([line("x", answerable=True), line("x", answerable=True, faithfulness=1)], "line 2 is line 1 again"),
    ],
)
def test_what_is_no_data(lines: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        read_rows(write(tmp_path / "data.jsonl", lines))
    assert caught.value.code == "ZO310"


def test_data_that_is_not_json(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\n{"messages": \xff}\n')
    with pytest.raises(SpecError, match="line 2 is not JSON"):
        read_rows(path)


def test_the_account_as_data_and_as_a_table(tmp_path: Path) -> None:
    rows, measured = run(LINES, tmp_path)
    found = account(CAREFUL, rows, measured)
    document = json.loads(json.dumps(to_document(found)))
    assert document["figures"]["flow"]["jafs"]["value"] == pytest.approx(0.78)
    table = render_account(found)
    assert "10 queries, 6 answerable, 4 unanswerable" in table
    assert "0.780 [" in table
    assert "a model's judgement" in table
    assert "0: the same" in table
