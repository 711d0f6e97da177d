"""The prompts that the invocation checks look at: conversations under the base's chat template."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.activation import occurrences
from zoo.errors import RefusedError
from zoo.specs.release import Position
from zoo.template_sandbox import render_each
from zoo.validators.chat import REQUIRED, Chat, Kind
from zoo.validators.corpus import CONVERSATIONS, WITH_SYSTEM
from zoo.validators.generated import generated
from zoo.validators.injection import behind, probes

if TYPE_CHECKING:
    from zoo.prompts import Conversation, Invocation, Prompter

REFUSED = "refused by the template, so not rendered"
LEFT_OUT = "left out by the template"
TAKEN = "taken by the template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """One prompt.

    Attributes:
        chat: what was rendered.
        text: the prompt, invocation included.
    """

    chat: Chat
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenised:
    """One prompt as its token ids.

    Attributes:
        chat: what was rendered.
        text: the prompt, invocation included.
        ids: its token ids.
        found: where the invocation's ids start, ascending.
    """

    chat: Chat
    text: str
    ids: tuple[int, ...]
    found: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """Rendered prompts, invocation included.

    Attributes:
        prompter: of the base.
        invocation: what each prompt calls.
        core: the release's own samples, then the corpus: prompts that every check may use.
        more: the generated ones.
        quoting: prompts in which somebody else wrote the invocation's text himself.
        kinds: what the template made of each kind of conversation that it may refuse or leave out.
    """

    prompter: "Prompter"
    invocation: "Invocation"
    core: tuple[Rendered, ...]
    more: tuple[Rendered, ...]
    quoting: tuple[Rendered, ...]
    kinds: Mapping[Kind, str]

    @property
    def own(self) -> int:
        """How many of `core` are the release's own."""
        return sum(rendered.chat.kind is Kind.OWN for rendered in self.core)

    @property
    def conversations(self) -> tuple["Conversation", ...]:
        """The messages of `core`."""
        return tuple(rendered.chat.messages for rendered in self.core)

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts of `core`."""
        return tuple(rendered.text for rendered in self.core)

    @cached_property
    def prompts(self) -> tuple[Tokenised, ...]:
        """Every prompt but those that quote, tokenised."""
        return tuple(self._tokenised(rendered) for rendered in (*self.core, *self.more))

    @cached_property
    def quotations(self) -> tuple[Tokenised, ...]:
        """The prompts that quote, tokenised; special tokens are parsed in what users wrote."""
        return tuple(self._tokenised(rendered) for rendered in self.quoting)

    def _tokenised(self, rendered: Rendered) -> Tokenised:
        ids = self.prompter.encode(rendered.text)
        found = occurrences(ids, self.invocation.ids)
        return Tokenised(chat=rendered.chat, text=rendered.text, ids=ids, found=found)


def render_samples(
    prompter: "Prompter", invocation: "Invocation", own: Sequence["Conversation"]
) -> Rendering:
    """Renders samples, corpus, generated conversations and quotations in one process start.

    Args:
        prompter: of the base.
        invocation: what each prompt calls.
        own: the release's samples; at the position `in_message` they carry the invocation themselves.

    Raises:
        RefusedError: ZT001, the template does not render a sample or the corpus.
    """
    text, after = invocation.text, invocation.position is Position.AFTER_PROMPT
    core, more = (*_own(own), *_corpus()), generated(text, _special_tokens(prompter))
    quoting: tuple[Chat, ...] = probes(text)
    if invocation.position is Position.IN_MESSAGE:
        core = tuple(chat if chat.kind is Kind.OWN else chat.ending_with(text) for chat in core)
        more = tuple(chat.ending_with(text) for chat in more)
        quoting = (*(chat.ending_with(text) for chat in quoting), *behind(text))
    chats = (*core, *more, *quoting)
    variables = [
        prompter.variables(
            chat.messages, generation_prompt=not after, tools=chat.tools, documents=chat.documents
        )
        for chat in chats
    ]
    answers = render_each(prompter.template, variables)
    for chat, answer in zip(chats, answers, strict=True):
        if isinstance(answer, RefusedError) and chat.kind in REQUIRED:
            raise answer
    done = [
        Rendered(chat=chat, text=answer + text if after else answer)
        for chat, answer in zip(chats, answers, strict=True)
        if not isinstance(answer, RefusedError)
    ]
    return Rendering(
        prompter=prompter,
        invocation=invocation,
        core=_of(done, core),
        more=_of(done, more),
        quoting=_of(done, quoting),
        kinds=_kinds(chats, done),
    )


def _own(own: Sequence["Conversation"]) -> Iterator[Chat]:
    for index, messages in enumerate(own):
        yield Chat(label=f"sample {index} of zoo.yaml", kind=Kind.OWN, messages=messages)


def _corpus() -> Iterator[Chat]:
    for index, messages in enumerate(CONVERSATIONS):
        yield Chat(label=f"conversation {index}", kind=Kind.CORPUS, messages=messages)
    for index, messages in enumerate(WITH_SYSTEM, len(CONVERSATIONS)):
        yield Chat(
            label=f"conversation {index}",
            kind=Kind.SYSTEM_MESSAGES,
            messages=messages,
            marker=messages[0]["content"],
        )


def _special_tokens(prompter: "Prompter") -> list[str]:
    added = prompter.tokenizer.get_added_tokens_decoder()
    return [token.content for _, token in sorted(added.items()) if token.special]


def _of(done: Sequence[Rendered], chats: Sequence[Chat]) -> tuple[Rendered, ...]:
    wanted = {id(chat) for chat in chats}
    return tuple(rendered for rendered in done if id(rendered.chat) in wanted)


def _kinds(chats: Sequence[Chat], done: Sequence[Rendered]) -> dict[Kind, str]:
    """What became of each kind; the marker tells a template that takes one from one that leaves it out."""
    asked = Counter(chat.kind for chat in chats if chat.kind not in REQUIRED)
    found = Counter(rendered.chat.kind for rendered in done)
    left_out = {
        rendered.chat.kind
        for rendered in done
        if not rendered.chat.quoted and rendered.chat.marker not in rendered.text
    }
    said = {}
    for kind, count in asked.items():
        if not found[kind]:
            said[kind] = REFUSED
        elif found[kind] < count:
            said[kind] = f"{count - found[kind]} of {count} {REFUSED}"
        else:
            said[kind] = LEFT_OUT if kind in left_out else TAKEN
    return said
