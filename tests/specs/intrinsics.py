"""Contracts of the intrinsics that people know, each with requests to rewrite and replies to process.

The structure is that of the published files; the words are ours.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).with_name("contracts")
QUESTION = {"role": "user", "content": "When was the lighthouse lit? Who kept it?"}
ANSWER = {"role": "assistant", "content": "It was lit in 1868. One keeper lived there. He rowed once a week."}
DOCUMENTS = [
    {"doc_id": "log", "text": "First lit on the ninth of March 1868. The wind was north-east."},
    {"doc_id": "map", "text": "The skerry lies north of the village. One house stands on it."},
]
WORDS = re.compile(r"[A-Za-zäöü…]+|\d|[^A-Za-zäöü…\d]+")


@dataclass(frozen=True, kw_only=True)
class Intrinsic:
    """A contract and what it is tried on.

    Attributes:
        name: of its file.
        replies: values that a model may answer.
        arguments: of the instruction.
        ends_with_answer: the conversation ends with the assistant's turn.
        in_message: the instruction carries the invocation; otherwise it follows the prompt.
    """

    name: str
    replies: Sequence[Any]
    arguments: Mapping[str, str]
    ends_with_answer: bool = False
    in_message: bool = True

    @property
    def path(self) -> Path:
        return CONTRACTS / f"{self.name}.yaml"

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def request(self) -> dict[str, Any]:
        messages = [QUESTION, ANSWER] if self.ends_with_answer else [QUESTION]
        return {
            "messages": [dict(message) for message in messages],
            "extra_body": {"documents": [dict(one) for one in DOCUMENTS]},
        }


CITED: tuple[Any, ...] = (
    [{"r": 0, "c": [0, 1, 2]}, {"r": 1, "c": []}],
    [{"r": 2, "c": [3, 3, 0]}, {"r": 2, "c": [3]}],
    [],
)
INTRINSICS = (
    Intrinsic(name="answerability", replies=("answerable", "unanswerable"), arguments={}, in_message=False),
    Intrinsic(
        name="requirement_check",
        replies=({"score": "yes"}, {"score": "no"}),
        arguments={"requirement": "names a year"},
        ends_with_answer=True,
    ),
    Intrinsic(
        name="uncertainty", replies=({"score": "0"}, {"score": "9"}), arguments={}, ends_with_answer=True
    ),
    Intrinsic(name="certainty_digits", replies=(0, 3, 9), arguments={}, in_message=False),
    Intrinsic(
        name="requirement_boolean",
        replies=(True, False),
        arguments={"requirement": "names a year"},
        ends_with_answer=True,
    ),
    Intrinsic(
        name="hallucination_detection",
        replies=(
            [{"r": 0, "f": "faithful", "e": "the log says it"}, {"r": 2, "f": "partial", "e": "half of it"}],
            [{"r": 1, "f": "unfaithful", "e": "nobody says so"}],
            [],
        ),
        arguments={},
        ends_with_answer=True,
    ),
    Intrinsic(name="citations", replies=CITED, arguments={}, ends_with_answer=True),
    Intrinsic(
        name="context_attribution",
        replies=(*CITED, [{"r": 0, "c": [0, 4, 5]}]),
        arguments={},
        ends_with_answer=True,
    ),
    Intrinsic(
        name="context_relevance",
        replies=tuple(
            {"context_relevance": word} for word in ("relevant", "irrelevant", "partially relevant")
        ),
        arguments={"document_content": "First lit on the ninth of March 1868."},
    ),
    Intrinsic(
        name="guardian",
        replies=({"score": "yes"}, {"score": "no"}),
        arguments={"criteria": "It is rude.", "target_role": "assistant"},
        ends_with_answer=True,
    ),
    Intrinsic(
        name="query_rewrite",
        replies=({"rewritten_question": "Who kept the lighthouse on the skerry?"},),
        arguments={},
        in_message=False,
    ),
    Intrinsic(
        name="relevance_classifier",
        replies=(
            {"analysis": "short", "category": "on topic", "judgment": True},
            {"analysis": "long", "category": "too vague", "judgment": False},
        ),
        arguments={},
        ends_with_answer=True,
    ),
    Intrinsic(
        name="ollama_answerability", replies=("answerable", "unanswerable"), arguments={}, in_message=False
    ),
)


def choice(text: str, alternatives: Sequence[str] = ()) -> dict[str, Any]:
    """An OpenAI choice: words, digits and what is between them as tokens, each with the same alternatives."""
    content = []
    for word in WORDS.findall(text):
        others = [other for other in dict.fromkeys(alternatives) if other != word][:9]
        top = [{"token": word, "logprob": -0.4}]
        top += [{"token": other, "logprob": -2.0 - index / 3} for index, other in enumerate(others)]
        content.append({"token": word, "logprob": -0.4, "top_logprobs": top})
    return {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": {"content": content}}


def alternatives(schema: Any) -> list[str]:
    """The first word of every enumerated value in a schema, then its first letter."""
    found: list[str] = []
    if isinstance(schema, Mapping):
        for value in schema.get("enum", ()):
            found += WORDS.findall(value if isinstance(value, str) else json.dumps(value))[:1]
        if schema.get("type") == "boolean":
            found += ["true", "false"]
        for child in schema.values():
            found += alternatives(child)
    elif isinstance(schema, list):
        for child in schema:
            found += alternatives(child)
    words = list(dict.fromkeys(found))
    return list(dict.fromkeys([*words, *(word[:1] for word in words)]))
