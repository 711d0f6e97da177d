"""The prompts that the invocation checks look at: conversations under the base's chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import RefusedError
from zoo.specs.release import InvocationSpec, Position
from zoo.validators.corpus import CONVERSATIONS, WITH_SYSTEM, quoting

if TYPE_CHECKING:
    from zoo.prompts import Conversation, Invocation, Prompter


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """Rendered prompt texts, invocation included.

    Attributes:
        conversations: the release's own samples, then the corpus.
        texts: the prompt of each conversation.
        quoted: prompts whose user wrote the invocation's text himself.
        own: how many of the conversations are the release's own.
        system_refused: the template refuses system messages, so those conversations were left out.
    """

    conversations: tuple["Conversation", ...]
    texts: tuple[str, ...]
    quoted: tuple[str, ...]
    own: int
    system_refused: bool


def render_samples(
    prompter: "Prompter", invocation: "Invocation", own: Sequence["Conversation"]
) -> Rendering:
    """Renders samples, corpus and quotations in one process start.

    Args:
        prompter: of the base.
        invocation: what each prompt calls.
        own: the release's samples; at the position `in_message` they carry the invocation themselves.

    Raises:
        RefusedError: ZT001, the template does not render them.
    """
    try:
        return _render(prompter, invocation, own, (*CONVERSATIONS, *WITH_SYSTEM), system_refused=False)
    except RefusedError:
        return _render(prompter, invocation, own, CONVERSATIONS, system_refused=True)


def _render(
    prompter: "Prompter",
    invocation: "Invocation",
    own: Sequence["Conversation"],
    corpus: Sequence["Conversation"],
    *,
    system_refused: bool,
) -> Rendering:
    quoting_ones = quoting(invocation.text)
    if invocation.position is Position.IN_MESSAGE:
        corpus = [ending_with(conversation, invocation.text) for conversation in corpus]
        quoting_ones = [ending_with(conversation, invocation.text) for conversation in quoting_ones]
    conversations = (*own, *corpus)
    spec = InvocationSpec(text=invocation.text, position=invocation.position)
    texts = prompter.texts([*conversations, *quoting_ones], spec)
    return Rendering(
        conversations=conversations,
        texts=tuple(texts[: len(conversations)]),
        quoted=tuple(texts[len(conversations) :]),
        own=len(own),
        system_refused=system_refused,
    )


def ending_with(conversation: "Conversation", text: str) -> "Conversation":
    """The conversation with an invocation on a line of its own at the end of its last message."""
    *earlier, last = conversation
    content = last["content"]
    joint = "\n" if content and not content.endswith("\n") else ""
    return [*earlier, {**last, "content": content + joint + text}]
