"""Sentences: where they are in a text, which number and which tag each has in a request."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError
from zoo.io.request import documents_of

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktSentenceTokenizer

MAX_ENDS = 50_000  # the splitter takes some 45 µs for each full stop
MAX_CACHED_CHARACTERS = 200_000
# A word of two letters or more, an end, white space, no further end: no abbreviation (none is known without
# training), no initial, no number, no ellipsis. Punkt always ends a sentence there, after some 40 µs.
_PLAIN = re.compile(r"[^\W\d_]{2,}[.?!][ \n\t\r]+[^\s.?!]\S*")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A text of a request whose sentences are numbered.

    Attributes:
        location: `last_message`, `documents` or `all_but_last_message`.
        prefix: what its tags begin with.
        text: without tags.
        spans: of its sentences in `text`, in characters.
        first: number of its first sentence.
        index: of the message or document.
        document_id: the document's `doc_id`.
    """

    location: str
    prefix: str
    text: str
    spans: tuple[Span, ...]
    first: int
    index: int
    document_id: str | None = None

    def tagged(self) -> str:
        """The text as the model sees it: each sentence behind its tag, joined by single spaces.

        Source: granite-common 0.4.1, intrinsics/input.py (mark_sentence_boundaries).
        """
        return " ".join(
            f"<{self.prefix}{number}> {self.text[begin:end]}"
            for number, (begin, end) in enumerate(self.spans, self.first)
        )


def places(request: Mapping[str, Any], boundaries: Mapping[Any, str]) -> list[Place]:
    """Every text of a request whose sentences are numbered, with the numbers.

    The last message counts from 0; documents count from 0 and the history goes on where they end.

    Args:
        request: as `zoo.io.request.read_request` returned it.
        boundaries: tag prefix by location.

    Raises:
        ContractError: ZO103, there is no last message; ZO104, a text has such tags already; ZO102, more
            sentences than can be split.

    Source: mellea 0.8.0, formatters/granite/intrinsics/input.py (IntrinsicsRewriter).
    """
    if not boundaries:
        return []
    if "last_message" in boundaries and not request["messages"]:
        raise ContractError(
            "sentences of the last message are numbered, and there is no message",
            path=("messages",),
            code="ZO103",
        )
    found: list[Place] = []
    last = len(request["messages"]) - 1
    texts = list(_texts(request, boundaries))
    _check_tags(texts, boundaries.values())
    _check_ends(texts)
    number = 0
    for location, index, text, document_id in texts:
        own = location == "last_message"
        place = Place(
            location=location,
            prefix=boundaries[location],
            text=text,
            spans=split(text),
            first=0 if own else number,
            index=last if own else index,
            document_id=document_id,
        )
        number += 0 if own else len(place.spans)
        found.append(place)
    return found


def split(text: str) -> tuple[Span, ...]:
    """Begin and end of every sentence of a text, in characters.

    The splitter is nltk's Punkt without training, as in the published executors: a sentence ends at a full
    stop, question or exclamation mark, unless an initial or an ellipsis says otherwise.

    Raises:
        ContractError: ZO102, it takes too long.
    """
    if len(text) <= MAX_CACHED_CHARACTERS:
        return _split(text)
    return _spans(text)


@lru_cache(maxsize=128)  # a request is split to be rewritten and again to read its reply
def _split(text: str) -> tuple[Span, ...]:
    return _spans(text)


def _spans(text: str) -> tuple[Span, ...]:
    try:
        return tuple(_splitter().span_tokenize(text))
    except TimeoutError:  # nltk bounds the time of its patterns
        raise ContractError("a text takes too long to be split into sentences", code="ZO102") from None


@lru_cache(maxsize=1)
def _splitter() -> "PunktSentenceTokenizer":
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    class Splitter(PunktSentenceTokenizer):  # type: ignore[misc]
        """Punkt without training, with a short way to its answer for plain words."""

        def text_contains_sentbreak(self, text: str) -> bool:
            return _PLAIN.fullmatch(text) is not None or bool(super().text_contains_sentbreak(text))

    return Splitter()


def _texts(
    request: Mapping[str, Any], boundaries: Mapping[str, str]
) -> Iterator[tuple[str, int, str, str | None]]:
    messages = request["messages"]
    if "documents" in boundaries:
        for index, document in enumerate(documents_of(request)):
            yield "documents", index, document["text"], document.get("doc_id")
    if "all_but_last_message" in boundaries:
        for index, message in enumerate(messages[:-1]):
            if message.get("content") is not None:
                yield "all_but_last_message", index, message["content"], None
    if "last_message" in boundaries:
        content = messages[-1].get("content")
        if content is None:
            raise ContractError(
                "sentences of the last message are numbered, and it has no text",
                path=("messages", len(messages) - 1, "content"),
                code="ZO103",
            )
        yield "last_message", len(messages) - 1, content, None


def _check_tags(texts: list[tuple[str, int, str, str | None]], prefixes: Any) -> None:
    tag = _tag(tuple(sorted(set(prefixes))))
    for location, index, text, _ in texts:
        if found := tag.search(text):
            raise ContractError(
                f"the text has {found.group()!r} in it, which reads like a sentence's tag",
                path=path_of(location, index),
                hint="give the request as it was before rewriting; text that says so has no numbers",
                code="ZO104",
            )


@lru_cache(maxsize=64)
def _tag(prefixes: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"<(?:{'|'.join(map(re.escape, prefixes))})[0-9]+>")


def _check_ends(texts: list[tuple[str, int, str, str | None]]) -> None:
    left = MAX_ENDS
    for location, index, text, _ in texts:
        left -= text.count(".") + text.count("?") + text.count("!")
        if left < 0:
            raise ContractError(
                f"more than {MAX_ENDS:,} possible ends of sentences",
                path=path_of(location, index),
                hint="split the work into several requests",
                code="ZO102",
            )


def path_of(location: str, index: int) -> tuple[str | int, ...]:
    """Where in a request the text at `index` of `location` is."""
    if location == "documents":
        return ("extra_body", "documents", index, "text")
    return ("messages", index, "content")
