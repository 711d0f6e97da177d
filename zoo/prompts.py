"""From a conversation to the token ids of a prompt, and to the place of the invocation in it.

Rendering and tokenising run without torch. A prompt is tokenised in one piece, invocation included,
because that is what decides whether the invocation's ids come out: a byte-pair merge across its edge
makes an adapter that can never activate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.activation import occurrences
from zoo.errors import RefusedError
from zoo.models import BaseModel
from zoo.specs.release import InvocationSpec, Position
from zoo.template_sandbox import render

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Conversation = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A rendered prompt.

    Attributes:
        text: what the model reads, special tokens spelt out.
        ids: its token ids.
        start: index in `ids` of the invocation's first token (the last occurrence).
    """

    text: str
    ids: tuple[int, ...]
    start: int

    @property
    def prefix(self) -> tuple[int, ...]:
        """The ids before the invocation: the part whose KV cache is the base model's."""
        return self.ids[: self.start]

    @property
    def suffix(self) -> tuple[int, ...]:
        """The ids from the invocation's first token on."""
        return self.ids[self.start :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """An invocation under one tokenizer.

    Attributes:
        text: as the author wrote it.
        ids: its token ids, as the adapter's config has them.
        position: where it goes in a prompt.
    """

    text: str
    ids: tuple[int, ...]
    position: Position


class Prompter:
    """Renders and tokenises prompts for one base model."""

    def __init__(self, base: BaseModel) -> None:
        """Remembers the base; files are read when first needed."""
        self.base = base

    @cached_property
    def _loaded(self) -> "tuple[Tokenizer, Mapping[str, Any]]":
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.base.tokenizer_path))
        truncation: Mapping[str, Any] = tokenizer.truncation or {}
        # transformers sets both anew at each call; left as they are in the file they would cut our prompts
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer, truncation

    @property
    def tokenizer(self) -> "Tokenizer":
        """The fast tokenizer of `tokenizer.json`, which neither truncates nor pads.

        Raises:
            BaseMissingError: the base has no `tokenizer.json`.
        """
        return self._loaded[0]

    @property
    def own_truncation(self) -> Mapping[str, Any]:
        """The truncation that `tokenizer.json` sets: `max_length`, `direction`, …; empty when it sets none.

        Raises:
            BaseMissingError: the base has no `tokenizer.json`.
        """
        return self._loaded[1]

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text, without added special tokens; special tokens in the text are parsed."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens spelt out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=False)
        return text

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """`bos_token`, `eos_token`, … as text, as the template's variables want them."""
        found = {}
        for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
            value: Any = self.base.tokenizer_config.get(name)
            if isinstance(value, dict):
                value = value.get("content")
            if isinstance(value, str):
                found[name] = value
        return found

    @property
    def end_ids(self) -> tuple[int, ...]:
        """What ends an answer: the end-of-sequence token; empty when the base names none."""
        return self.encode(self.special_tokens["eos_token"]) if "eos_token" in self.special_tokens else ()

    @property
    def pad_id(self) -> int | None:
        """The id that fills short rows, or None when the tokenizer has none."""
        if "pad_token" not in self.special_tokens:
            return None
        found: int | None = self.tokenizer.token_to_id(self.special_tokens["pad_token"])
        return found

    def render(self, conversations: Sequence[Conversation], *, generation_prompt: bool) -> list[str]:
        """The text of each conversation under the base's chat template.

        Args:
            conversations: chat messages with `role` and `content`.
            generation_prompt: whether the template shall open the assistant's turn.

        Raises:
            RefusedError: ZT001, the base has no template, or it fails or breaks a limit.
        """
        contexts = [
            self.variables(conversation, generation_prompt=generation_prompt)
            for conversation in conversations
        ]
        return render(self.template, contexts)

    @property
    def template(self) -> str:
        """The base's chat template.

        Raises:
            RefusedError: ZT001, the base has none.
        """
        if not self.base.chat_template:
            raise RefusedError(
                f"the base model {self.base.id} has no chat template",
                code="ZT001",
                hint="use an instruction-tuned base model",
            )
        return self.base.chat_template

    def variables(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """What a chat template is rendered with.

        Args:
            messages: chat messages.
            generation_prompt: whether the template shall open the assistant's turn.
            tools: function definitions in the JSON form that transformers passes on.
            documents: each with `title` and `text`.
        """
        return {
            **self.special_tokens,
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": generation_prompt,
            "tools": list(tools) if tools else None,
            "documents": list(documents) if documents else None,
        }

    def texts(self, conversations: Sequence[Conversation], invocation: InvocationSpec) -> list[str]:
        """The prompt text of each conversation, invocation included where its position puts it.

        Raises:
            RefusedError: see `render`.
        """
        after = invocation.position is Position.AFTER_PROMPT
        rendered = self.render(conversations, generation_prompt=not after)
        return [text + invocation.text for text in rendered] if after else rendered

    def prompts(self, conversations: Sequence[Conversation], invocation: Invocation) -> list[Prompt]:
        """Prompts of conversations, each with the place of its invocation.

        Raises:
            RefusedError: ZI004 with the index of the first conversation in which the ids do not occur.
        """
        spec = InvocationSpec(text=invocation.text, position=invocation.position)
        return [
            self.locate(text, invocation, label=f"conversation {index}")
            for index, text in enumerate(self.texts(conversations, spec))
        ]

    def locate(self, text: str, invocation: Invocation, *, label: str) -> Prompt:
        """Tokenises a prompt text and finds the invocation in it.

        Args:
            text: a whole prompt.
            invocation: what to find.
            label: names the prompt in an error.

        Raises:
            RefusedError: ZI004, the ids do not occur.
        """
        ids = self.encode(text)
        found = occurrences(ids, invocation.ids)
        if found:
            return Prompt(text=text, ids=ids, start=found[-1])
        if invocation.text in text:
            what = "its text is there, but its tokens merge with their neighbours"
            hint = "begin and end the invocation with special tokens"
        else:
            what = "its text is not there"
            hint = f"the position is {invocation.position.value}: check that the prompt puts it there"
        raise RefusedError(
            f"{label}: the invocation {invocation.text!r} is not in the tokenised prompt: {what}",
            code="ZI004",
            hint=hint,
        )
