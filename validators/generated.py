"""Conversations made by rule: every kind of character before the invocation, every shape of conversation."""

from collections.abc import Iterator, Sequence
from typing import Any

from zoo.validators.characters import endings, named
from zoo.validators.chat import Chat, Kind, Message, asked

PREFIXES = 24  # of the invocation's own text; of longer ones the first and the last are tried
SPECIAL_TOKENS = 8
_WORDS = "The keeper rowed to the village for flour, oil and letters. "

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "tide_table",
        "description": "Tides of a harbour on one day.",
        "parameters": {
            "type": "object",
            "properties": {"harbour": {"type": "string", "description": "its name"}},
            "required": ["harbour"],
        },
    },
}
RESULT = '{"high": ["04:10", "16:32"]}'
DOCUMENT = {"title": "Log of 1868", "text": "First lit on the ninth of March, wind north-east."}


def generated(invocation: str, special_tokens: Sequence[str]) -> tuple[Chat, ...]:
    """The generated conversations.

    Args:
        invocation: its text, of which every beginning is put at the end of a message.
        special_tokens: of the base, some of which are written by users.
    """
    return (*_endings(invocation, special_tokens), *_lengths(), *_turns(), *_shapes())


def _endings(invocation: str, special_tokens: Sequence[str]) -> Iterator[Chat]:
    known = set()
    for text in (*endings(), *special_tokens[:SPECIAL_TOKENS]):
        if text not in known:
            known.add(text)
            yield asked(f"ending in {named(text)}", Kind.ENDING, f"When was it lit{text}")
    for size in _sizes(len(invocation)):
        label = f"ending in the invocation's first {size} characters"
        yield asked(label, Kind.ENDING, f"When was it lit? {invocation[:size]}")


def _sizes(length: int) -> list[int]:
    half = PREFIXES // 2
    every = list(range(1, length))
    return every if len(every) <= PREFIXES else [*every[:half], *every[-half:]]


def _lengths() -> Iterator[Chat]:
    for label, content in (
        ("empty", ""),
        ("one space", " "),
        ("one character", "?"),
        ("long, of words", _WORDS * 60),
        ("one long word", "letter" * 100),
        ("many line breaks", "\n" * 200),
        ("long, of Han characters", "灯台の守り人" * 40),
    ):
        yield asked(label, Kind.LENGTH, content)


def _turns() -> Iterator[Chat]:
    for count in (2, 3, 6):
        messages: list[Message] = []
        for turn in range(count):
            messages += [_said("user", f"And then, {turn}?"), _said("assistant", f"It went on, {turn}.")]
        yield Chat(label=f"{count} turns", kind=Kind.TURNS, messages=messages[:-1])
        yield Chat(label=f"{count} turns, answered", kind=Kind.TURNS, messages=messages)
    empty = [_said("user", "Go"), _said("assistant", ""), _said("user", "")]
    yield Chat(label="turns that are empty", kind=Kind.TURNS, messages=empty)
    twice = [_said("user", "First."), _said("user", "Second.")]
    yield Chat(label="two messages of the user in a row", kind=Kind.TURNS, messages=twice)


def _shapes() -> Iterator[Chat]:
    question = _said("user", "When is high water in Skerry?")
    for text in ("Answer from the passage only.", "Rules:\n- be brief\n- no lists\n", _WORDS * 10):
        messages = [_said("system", text), question]
        marker = text.strip()
        yield Chat(label="with a system message", kind=Kind.SYSTEM_MESSAGES, messages=messages, marker=marker)
    name = TOOL["function"]["name"]
    yield Chat(label="with tools", kind=Kind.TOOLS, messages=[question], tools=[TOOL], marker=name)
    both = [_said("system", "Use the tools."), question]
    yield Chat(
        label="with tools and a system message", kind=Kind.TOOLS, messages=both, tools=[TOOL], marker=name
    )
    yield Chat(
        label="behind a tool's result",
        kind=Kind.TOOL_RESULTS,
        messages=[question, *tool_call(RESULT)],
        tools=[TOOL],
        marker="04:10",
    )
    yield Chat(
        label="with a document",
        kind=Kind.DOCUMENTS,
        messages=[question],
        documents=[DOCUMENT],
        marker=DOCUMENT["text"],
    )
    several = [DOCUMENT, {"title": "", "text": ""}, {"title": "A list", "text": "- flour\n- oil\n"}]
    yield Chat(
        label="with several documents",
        kind=Kind.DOCUMENTS,
        messages=[question],
        documents=several,
        marker=DOCUMENT["text"],
    )


def tool_call(result: str) -> tuple[Message, Message]:
    """The assistant's call of the tool, and what the tool answers."""
    function = {"name": TOOL["function"]["name"], "arguments": {"harbour": "Skerry"}}
    call = {"id": "call00001", "type": "function", "function": function}
    answer = {"role": "tool", "name": function["name"], "tool_call_id": call["id"], "content": result}
    return {"role": "assistant", "content": "", "tool_calls": [call]}, answer


def _said(role: str, content: str) -> Message:
    return {"role": role, "content": content}
