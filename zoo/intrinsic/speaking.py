"""Decoding a reply on a base's cache: limits, schema, log-probabilities, streaming, times."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zoo.errors import ContractError
from zoo.intrinsic import limits
from zoo.intrinsic.answer import Answer, Seconds
from zoo.intrinsic.reply import Pieces, as_choice
from zoo.intrinsic.request import read_request
from zoo.io.documents import as_messages, numbered
from zoo.io.prompt import Asked, rendered, takes_documents
from zoo.models import BaseModel
from zoo.prompts import Prompter

if TYPE_CHECKING:
    from zoo.inference.adapted import Adapted
    from zoo.inference.constraint import Constraint
    from zoo.inference.grammar import Grammars
    from zoo.inference.shared_base import SharedBase


@dataclass(slots=True, kw_only=True)
class Clock:
    """Splits wall time into laps."""

    last: float = field(default_factory=time.perf_counter)

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        self.last, passed = now, now - self.last
        return passed


class Language:
    """What is read once for a base, however many adapters speak on it.

    Attributes:
        prompter: renders and tokenises.
        turn: held while one speaks: a base's adapters share the memory in which they continue a prefix.
    """

    def __init__(self, base: BaseModel) -> None:
        """Reads nothing yet."""
        self.prompter = Prompter(base)
        self.turn = threading.Lock()

    @cached_property
    def end_ids(self) -> tuple[int, ...]:
        """What ends a reply."""
        return limits.end_ids(self.prompter)

    @cached_property
    def grammars(self) -> "Grammars":
        """Constraints for this base's tokenizer."""
        from zoo.inference.grammar import Grammars

        vocabulary = self.prompter.base.vocabulary
        return Grammars(self.prompter.tokenizer, vocabulary=vocabulary, end_ids=self.end_ids)


_LANGUAGES: "WeakKeyDictionary[SharedBase, Language]" = WeakKeyDictionary()


class Speaker:
    """Decodes replies of a base and its adapters.

    Attributes:
        shared: the base.
        language: its tokenizer and what goes with it.
    """

    def __init__(self, shared: "SharedBase") -> None:
        """Takes the base's language, which all speakers on it share."""
        self.shared = shared
        self.language = _LANGUAGES.setdefault(shared, Language(shared.base))

    @property
    def prompter(self) -> Prompter:
        """Renders and tokenises."""
        return self.language.prompter

    @staticmethod
    def clock() -> Clock:
        """A clock that starts now."""
        return Clock()

    def answer(self, request: Mapping[str, Any], *, on_text: Callable[[str], None] | None = None) -> Answer:
        """The base model's own answer to a request.

        Documents become a message in front of the others where the base's chat template takes none.

        Raises:
            ContractError: ZO100 or ZO151, it is no request; ZO154, it is too long.
            RefusedError: ZT001, the template refuses it.
        """
        clock = self.clock()
        messages, documents = read_request(request)
        if documents and not takes_documents(self.prompter):
            messages, documents = as_messages(numbered(documents), "string") + messages, []
        asked = Asked(messages=messages, documents=documents, tools=request.get("tools"))
        text = rendered([asked], self.prompter, generation_prompt=True)[0]
        ids = self.prompter.encode(text)
        return self.speak(
            self.shared.plain(),
            ids[:-1],
            ids[-1:],
            request=request,
            finish=lambda choice: choice["message"]["content"],
            on_text=on_text,
            clock=clock,
        )

    def speak(
        self,
        adapted: "Adapted",
        prefix: Sequence[int],
        suffix: Sequence[int],
        *,
        request: Mapping[str, Any],
        constraint: "Constraint | None" = None,
        finish: Callable[[Mapping[str, Any]], Any],
        on_text: Callable[[str], None] | None,
        clock: Clock,
    ) -> Answer:
        """Decodes one reply.

        Args:
            adapted: whose.
            prefix: what the base reads, or has read.
            suffix: what `adapted` reads.
            request: rewritten; its limits and log-probabilities are obeyed.
            constraint: what the reply keeps to; used up by the call.
            finish: from the choice to the result.
            on_text: told of the text piece by piece.
            clock: started when the call began.

        Raises:
            ContractError: ZO154, the prompt is too long; ZO156, a constrained reply was cut off.
        """
        most = limits.room(request, self.shared.base, len(prefix) + len(suffix))
        pieces = Pieces(self.prompter.tokenizer, on_text)
        prompt_seconds = clock.lap()
        with self.language.turn:
            known = self.shared.prefill(prefix)
            prefill_seconds = clock.lap()
            generated = adapted.generate(
                known,
                suffix,
                max_new_tokens=most,
                end_ids=self.language.end_ids,
                constraint=constraint,
                on_token=pieces.add,
                **limits.chosen(request),
            )
        decode_seconds = clock.lap()
        if constraint and generated.stopped == "length":
            raise _cut_off(most)
        ids = tuple(generated.ids)
        text: str = self.prompter.tokenizer.decode(list(ids), skip_special_tokens=True)
        result = finish(as_choice(text, ids, generated.top, self._spelt, generated.end))
        return Answer(
            text=text,
            result=result,
            ids=ids,
            stopped=generated.stopped,
            prefix_tokens=len(prefix),
            suffix_tokens=len(suffix),
            parts=Seconds(
                prompt=prompt_seconds, prefill=prefill_seconds, decode=decode_seconds, process=clock.lap()
            ),
        )

    def _spelt(self, id: int) -> bytes:
        # reading the tokenizer for grammars takes a while, and nobody asks how a token is spelt without one
        return self.language.grammars.spelt(id)


def _cut_off(tokens: int) -> ContractError:
    return ContractError(
        f"the reply was cut off after {tokens} tokens, before its schema was complete",
        code="ZO156",
        hint="raise max_completion_tokens, in the request or in the parameters of io.yaml",
    )


class _ClosedError(Exception):
    """The one who reads the pieces has gone."""


def streamed(ask: Callable[[Callable[[str], None]], Answer]) -> Generator[str, None, Answer]:
    """Yields the pieces of a reply while another thread decodes it; returns the answer.

    Args:
        ask: decodes, and calls what it is given with every piece.

    Raises:
        ZooError: what `ask` raises.
    """
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    closed = threading.Event()
    done: list[Answer | BaseException] = []

    def on_text(piece: str) -> None:
        if closed.is_set():
            raise _ClosedError
        pieces.put(piece)

    def work() -> None:
        try:
            done.append(ask(on_text))
        except BaseException as error:  # raised again where the pieces are read
            done.append(error)
        pieces.put(None)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not None:
            yield piece
    finally:
        closed.set()
        thread.join()
    outcome = done[0]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
