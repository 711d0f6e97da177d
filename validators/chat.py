"""One conversation of the corpus, with what a template may be given besides its messages."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Message = Mapping[str, Any]


class Kind(enum.StrEnum):
    """What a conversation asks of a template; a template may refuse or leave out the later ones.

    OWN: a sample of the release.
    CORPUS: the awkward conversations that every check looks at.
    ENDING: what stands right before the invocation is the point.
    LENGTH: empty and long contents.
    TURNS: several turns.
    SYSTEM_MESSAGES: a system message.
    TOOLS: definitions of tools.
    TOOL_RESULTS: a tool's answer as a message.
    DOCUMENTS: documents beside the messages.
    """

    OWN = "own_samples"
    CORPUS = "corpus"
    ENDING = "endings"
    LENGTH = "lengths"
    TURNS = "several_turns"
    SYSTEM_MESSAGES = "system_messages"
    TOOLS = "tools"
    TOOL_RESULTS = "tool_results"
    DOCUMENTS = "documents"


REQUIRED = frozenset({Kind.OWN, Kind.CORPUS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation to be rendered.

    Attributes:
        label: names it in a finding.
        kind: see `Kind`.
        messages: with `role`, `content` and, for a call of a tool, `tool_calls`.
        tools: function definitions, as transformers passes them to a template.
        documents: each with `title` and `text`.
        marker: text that is in the prompt if the template takes this kind; empty when nothing tells.
        quoted: the contents in which somebody else wrote the invocation's text; empty when nobody did.
        tail: what the last message says behind the invocation.
    """

    label: str
    kind: Kind
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    documents: Sequence[Mapping[str, str]] = ()
    marker: str = ""
    quoted: tuple[str, ...] = ()
    tail: str = ""

    @property
    def contents(self) -> tuple[str, ...]:
        """Every text that the template is given."""
        return (
            *(str(message["content"]) for message in self.messages),
            *(document["text"] for document in self.documents),
        )

    def ending_with(self, text: str) -> "Chat":
        """The same with an invocation at the end of the last message, on a line of its own.

        The assistant and tools do not call adapters: behind their messages the user writes another one.
        """
        *earlier, last = self.messages
        if last["role"] != "user":
            return replace(self, messages=[*self.messages, {"role": "user", "content": text}])
        content = str(last["content"])
        joint = "\n" if content and not content.endswith("\n") else ""
        return replace(self, messages=[*earlier, {**last, "content": content + joint + text}])


def asked(label: str, kind: Kind, content: str) -> Chat:
    """A conversation of one user message."""
    return Chat(label=label, kind=kind, messages=[{"role": "user", "content": content}])
