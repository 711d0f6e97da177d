import json
from pathlib import Path

import pytest

from tests.conftest import INVOCATION_TEXT
from tests.intrinsic.conftest import YES_NO, MakeRelease
from zoo.errors import SpecError, UsageError
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.intrinsic.chat import Chat, parse_arguments, read_documents


class Terminal:
    def __init__(self, *intrinsics: Intrinsic) -> None:
        self.said: list[str] = []
        self.notes: list[str] = []
        self.chat = Chat(intrinsics, intrinsics[0].speaker, say=self.said.append, note=self.notes.append)

    def write(self, line: str) -> str:
        """What is said to a line; remarks are in `notes`."""
        self.said.clear()
        self.notes.clear()
        assert self.chat.take(line + "\n")
        return "".join(self.said)


@pytest.fixture
def terminal(make_release: MakeRelease, shared: SharedBase, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setattr("zoo.intrinsic.limits.MAX_NEW_TOKENS", 24)  # a random model never ends by itself
    limits = {"parameters": {"max_completion_tokens": 40}}
    io = limits | {"response_format": YES_NO, "docs_as_message": "string", "instruction": "{about}?"}
    folders = [make_release("Certainty", io=io), make_release("relevance")]
    return Terminal(*(Intrinsic.load(folder, shared=shared) for folder in folders))


def test_the_base_answers_messages_and_its_answers_are_remembered(terminal: Terminal) -> None:
    first = terminal.write("is it relevant?")
    assert [one["role"] for one in terminal.chat.messages] == ["user", "assistant"]
    assert first == terminal.chat.messages[1]["content"] + "\n"
    assert len(terminal.said) > 2  # it came in pieces
    terminal.write("why?")
    assert [one["role"] for one in terminal.chat.messages] == ["user", "assistant"] * 2
    assert terminal.write("/show").startswith("user: is it relevant?\n")


def test_an_adapter_is_asked_and_the_conversation_stays(terminal: Terminal) -> None:
    terminal.write("/user is it relevant?")
    before = list(terminal.chat.messages)
    assert json.loads(terminal.write("/certainty about='the passage'"))["answer"] in ("yes", "no")
    assert "tokens read" in terminal.notes[0]
    terminal.write("/RELEVANCE")  # what random weights answer may be blank
    assert "tokens read" in terminal.notes[0]
    assert terminal.chat.messages == before
    terminal.write("/answer")
    assert len(terminal.chat.messages) == 2
    terminal.write("/new")
    assert terminal.chat.messages == []


def test_an_adapter_continues_what_the_base_has_read(terminal: Terminal) -> None:
    terminal.write("/user " + "is the passage relevant? " * 30)
    terminal.write("/answer")
    read: list[int] = []
    hook = terminal.chat.intrinsics["relevance"].shared.model.register_forward_pre_hook(
        lambda _, args, given: read.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    terminal.write("/relevance")
    hook.remove()
    answered = len(
        terminal.chat.intrinsics["relevance"].speaker.prompter.encode(terminal.chat.messages[1]["content"])
    )
    assert read[0] <= answered + 10


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("/nothing", "there is no /nothing"),
        ("/certainty", "ZO105"),
        ("/certainty about", "'about' is no argument"),
        ("/certainty about='x", "No closing quotation"),
        ("/documents nowhere.txt", "does not exist"),
        ("/user", "wants a text"),
        (f"/user {INVOCATION_TEXT.strip()}", ""),
    ],
)
def test_a_wrong_line_is_told_and_forgotten(terminal: Terminal, line: str, code: str) -> None:
    terminal.write("/user is it relevant?")
    terminal.write(line)
    if code:
        assert code in terminal.notes[0]
        assert len(terminal.chat.messages) == 1
    assert terminal.write("/relevance")


def test_nothing_is_asked_about_no_conversation(terminal: Terminal) -> None:
    for line in ("/answer", "/relevance"):
        terminal.write(line)
        assert "ZO151" in terminal.notes[0]


def test_documents_are_given_to_every_answer(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a relevant passage")
    (tmp_path / "b.jsonl").write_text('{"text": "one", "doc_id": "1"}\n\n{"text": "two"}\n')
    terminal.write(f"/documents {tmp_path / 'a.txt'} {tmp_path / 'b.jsonl'}")
    assert terminal.notes == ["3 documents"]
    terminal.write("/user relevant?")
    assert terminal.write("/answer")  # the template takes none: they are a message to the base
    terminal.write("/certainty about=it")
    assert "ZO" not in terminal.notes[0]  # this contract wants an id of each: they were numbered
    terminal.write("/documents")
    assert terminal.chat.documents == []
    for content in ("{broken", '{"title": "x"}', "[1]"):
        (tmp_path / "c.jsonl").write_text(content)
        with pytest.raises(SpecError):
            read_documents(tmp_path / "c.jsonl")
    (tmp_path / "d.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError):
        read_documents(tmp_path / "d.txt")


def test_quitting_and_help(terminal: Terminal) -> None:
    terminal.write("/help")
    assert "certainty, relevance" in terminal.notes[0]
    assert terminal.write("") == ""
    assert not terminal.chat.take("/quit\n")


def test_two_of_one_name_are_refused(
    terminal: Terminal, make_release: MakeRelease, shared: SharedBase
) -> None:
    one = terminal.chat.intrinsics["relevance"]
    for others in ((one, one), (Intrinsic.load(make_release("help"), shared=shared),)):
        with pytest.raises(UsageError, match="would be called"):
            Terminal(*others)


def test_arguments_are_name_and_value() -> None:
    assert parse_arguments(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            parse_arguments(wrong)
