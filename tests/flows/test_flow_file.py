from pathlib import Path

import pytest

from tests.flows.conftest import EXAMPLE, Edit
from zoo.errors import NotFoundError, SpecError
from zoo.specs.flow_file import parse_flow, read_flow
from zoo.validators.explain import page

FLOW = EXAMPLE / "flow.yaml"


def test_the_example_is_read_with_its_places() -> None:
    document = read_flow(FLOW)

    assert [step.id for step in document.spec.steps] == [
        "rewrite",
        "answerable",
        "answer",
        "citations",
        "check",
    ]
    line, column = document.place(("steps", 2, "when"))
    written = FLOW.read_text().splitlines()[line - 1]
    assert written[column - 1 :].startswith("when: answerable")


def test_the_flow_on_the_page_is_a_flow() -> None:
    block = page("ZO300").split("```yaml\n")[1].split("```")[0]
    assert parse_flow(block.encode(), name="page").spec.name


@pytest.mark.parametrize(
    ("old", "new", "code", "at", "words"),
    [
        ("format: 1\n", "format: 2\n", "ZO300", "format: 2", "format 2"),
        ("format: 1\n", "", "ZO300", "name:", "format is missing"),
        ("name: careful\n", "", "ZO300", "format:", "name is missing"),
        ("name: careful\n", "name: careful\nnme: x\n", "ZO300", "nme:", "nme: there is no such key"),
        ("    use: base\n", "    use: base\n    tmie: 3\n", "ZO300", "tmie: 3", "steps[2].tmie"),
        ('== "answerable"', '= "answerable"', "ZO300", "when: answerable", "is not a condition"),
        ("id: check", "id: answer", "ZO300", "format: 1", "two steps are called 'answer'"),
        ("id: check", "id: request", "ZO300", "id: request", "means something else"),
        ("id: check", "id: Check", "ZO300", "id: Check", "steps[4].id"),
        ("  response: answer\n", "  respnse: answer\n", "ZO300", "format: 1", "wants a `response`"),
        ("abstain: The documents do not say.", "abstain: null", "ZO300", "otherwise:", "exactly one of"),
        ("max_new_tokens: 12", "max_new_tokens: 0", "ZO300", "max_new_tokens: 0", "max_new_tokens"),
        (
            "use: ./faithfulness",
            "use: ./faithfulness\n    max_new_tokens: 3",
            "ZO300",
            "id: check",
            "the base model's",
        ),
        (
            "assistant: answer\n",
            "assistant: answer..text\n",
            "ZO300",
            "assistant: answer..",
            "is not a reference",
        ),
        ("name: careful\n", "name: careful\nname: again\n", "ZO003", "name: again", "twice"),
        ("name: careful\n", "name: &x careful\n", "ZO004", "&x", "anchor"),
    ],
)
def test_an_error_says_the_place(old: str, new: str, code: str, at: str, words: str, edited: Edit) -> None:
    path = edited(old, new) / "flow.yaml"

    with pytest.raises(SpecError) as caught:
        read_flow(path)

    assert caught.value.code == code
    name, line, column, _ = caught.value.message.split(":", 3)
    assert name == "flow.yaml"
    assert path.read_text().splitlines()[int(line) - 1][int(column) - 1 :].startswith(at), (
        caught.value.message
    )
    assert words in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff\xfe\x00", b"- a\n- b", b"[" * 10_000, b"a: " + b"x" * 1_000_000, b"!!python/object:x {}"],
)
def test_what_is_no_flow_at_all(raw: bytes) -> None:
    with pytest.raises(SpecError):
        parse_flow(raw, name="flow.yaml")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_flow(tmp_path / "flow.yaml")
