"""A model's reply: its text, and the tokens it was made of where the engine tells."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from zoo.errors import ContractError
from zoo.io.harmony import final_of_text, final_of_tokens
from zoo.io.json_value import Path

MAX_TOKENS = 200_000
MAX_TOP = 1_000
ROUNDING = 1e-3  # a server's log-probability may be above 0 by as much as this
WHERE: Path = ("logprobs", "content")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered.

    Attributes:
        text: the answer alone.
        tokens: entries of `logprobs.content` that the answer is made of; None when there are none.
        first: index of the first of them in `logprobs.content`.
    """

    text: str
    tokens: list[Mapping[str, Any]] | None
    first: int = 0


def read_reply(reply: str | Mapping[str, Any], *, harmony: bool) -> Reply:
    """Reads a reply's text or an OpenAI choice.

    Args:
        reply: text, or `{"message": {"content": …}, "logprobs": {"content": […]}}`.
        harmony: the answer is the final channel of a gpt-oss model's tokens, whatever the server made of
            them.

    Raises:
        ContractError: ZO121, it is neither; ZO127, its log-probabilities are malformed; ZO120, it has no
            final channel.
    """
    if isinstance(reply, str):
        return Reply(final_of_text(reply) if harmony else reply, None)
    if not isinstance(reply, Mapping):
        raise _malformed(f"a reply of type {type(reply).__name__}", ())
    content = _content(reply)
    tokens = _tokens(reply)
    if not harmony:
        return Reply(_text(content), tokens)
    if tokens is None:
        return Reply(final_of_text(_text(content)), None)
    span = final_of_tokens([entry["token"] for entry in tokens])
    if span is None:  # the server has cut the channels out by itself
        return Reply(_text(content), tokens)
    kept = tokens[span.start : span.stop]
    return Reply("".join(entry["token"] for entry in kept), kept, span.start)


def begins_of(reply: Reply) -> list[int]:
    """Offset in the reply's text at which each of its tokens begins, in characters, and the last one's end.

    Tokens may go on behind the text (the end of the turn) and white space may be before it.

    Raises:
        ContractError: ZO126, there are no tokens; ZO127, they do not make up the text.
    """
    if reply.tokens is None:
        raise ContractError(
            "the contract weighs probabilities, and the reply comes without log-probabilities",
            path=("logprobs",),
            hint="request logprobs: true, and pass the whole choice instead of its text",
            code="ZO126",
        )
    texts = [entry["token"] for entry in reply.tokens]
    joined = "".join(texts)
    before = 0 if joined.startswith(reply.text) else len(joined) - len(joined.lstrip())
    if not joined[before:].startswith(reply.text):
        texts, joined = _from_bytes(reply)
        before = 0
    if not joined[before:].startswith(reply.text):
        raise ContractError(
            "the tokens of the log-probabilities do not make up the reply's text",
            path=WHERE,
            hint="the server must return tokens as text, and the text unchanged",
            code="ZO127",
        )
    return list(accumulate((len(text) for text in texts), initial=-before))


def _from_bytes(reply: Reply) -> tuple[list[str], str]:
    """Tokens by their bytes: a character of several tokens is counted to the first of them."""
    texts, rest = [], b""
    for entry in reply.tokens or ():
        raw = entry.get("bytes")
        try:
            rest += bytes(raw)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return [], "\0"
        whole = rest.decode("utf-8", "ignore") if _is_whole(rest) else ""
        texts.append(whole)
        rest = b"" if whole or not rest else rest
    return texts, "".join(texts)


def _is_whole(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def probability(entry: Mapping[str, Any], path: Path) -> float:
    """The probability of a token's entry.

    Raises:
        ContractError: ZO127, it has no logarithm of one.
    """
    value = entry.get("logprob")
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= ROUNDING:
        raise ContractError(
            f"{value!r:.40} is no logarithm of a probability", path=(*path, "logprob"), code="ZO127"
        )
    return min(1.0, math.exp(max(value, -1e9)))


def alternatives(entry: Mapping[str, Any], path: Path) -> list[tuple[str, float]]:
    """Text and probability of the likeliest other tokens at a token's place, as the engine tells them.

    Raises:
        ContractError: ZO127, an entry is malformed.
    """
    top = entry.get("top_logprobs") or []
    if not isinstance(top, list | tuple) or len(top) > MAX_TOP:
        raise _broken("top_logprobs is no list of tokens", (*path, "top_logprobs"))
    said = []
    for index, other in enumerate(top):
        where = (*path, "top_logprobs", index)
        if not isinstance(other, Mapping) or not isinstance(other.get("token"), str):
            raise _broken("an alternative without a token", where)
        if other["token"] != entry["token"]:  # engines repeat the token itself among its alternatives
            said.append((other["token"], probability(other, where)))
    return said


def _content(reply: Mapping[str, Any]) -> Any:
    message = reply.get("message")
    if not isinstance(message, Mapping):
        raise _malformed("a reply without a message", ("message",))
    return message.get("content")


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise _malformed("a reply whose message has no text", ("message", "content"))
    return content


def _tokens(reply: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    logprobs = reply.get("logprobs")
    if logprobs is None:
        return None
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else ()
    if content is None:
        return None
    if not isinstance(logprobs, Mapping) or not isinstance(content, list | tuple):
        raise _broken("log-probabilities without a list of tokens", ("logprobs",))
    if len(content) > MAX_TOKENS:
        raise ContractError(f"a reply of more than {MAX_TOKENS:,} tokens", path=WHERE, code="ZO102")
    for index, entry in enumerate(content):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("token"), str):
            raise _broken("an entry without a token", (*WHERE, index))
    return list(content)


def _malformed(message: str, path: Path) -> ContractError:
    return ContractError(
        message,
        path=path,
        hint='pass the text, or one choice: {"message": {"content": "…"}, "logprobs": …}',
        code="ZO121",
    )


def _broken(message: str, path: Path) -> ContractError:
    return ContractError(message, path=path, code="ZO127")
