"""Requests: from a file or from arguments, and what must hold of them before anything is run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.activation import occurrences
from zoo.errors import ContractError, SpecError
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position

MAX_REQUEST_BYTES = 16_000_000
EXAMPLE = '{"messages": [{"role": "user", "content": "…"}], "extra_body": {"documents": [{"text": "…"}]}}'

Message = Mapping[str, Any]
Document = str | Mapping[str, Any]


def parse_request(raw: bytes | str, *, name: str) -> dict[str, Any]:
    """A chat-completions request from JSON text.

    Documents may stand in `extra_body.documents`, where servers want them, or at the top.

    Args:
        raw: JSON; bytes are UTF-8.
        name: what messages call it.

    Raises:
        SpecError: ZO150, too large, or not JSON, or no object.
    """
    if len(raw) > MAX_REQUEST_BYTES:
        raise SpecError(f"{name} is larger than {MAX_REQUEST_BYTES:,} bytes", code="ZO150")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{name} is not valid JSON: {str(error)[:120]}", code="ZO150", hint=EXAMPLE) from None
    if not isinstance(document, dict):
        raise SpecError(f"{name} is not a JSON object", code="ZO150", hint=EXAMPLE)
    if "documents" in document:
        extra = document.get("extra_body") or {}
        if not isinstance(extra, dict) or "documents" in extra:
            raise SpecError(f"{name} has documents in two places", code="ZO150", hint=EXAMPLE)
        document["extra_body"] = {**extra, "documents": document.pop("documents")}
    return document


def make_request(messages: Sequence[Message], documents: Sequence[Document] = ()) -> dict[str, Any]:
    """A request from its parts.

    Args:
        messages: with `role` and `content`.
        documents: texts, or objects with `text` and perhaps `title` and `doc_id`.
    """
    request: dict[str, Any] = {"messages": [dict(message) for message in messages]}
    if documents:
        listed = [{"text": one} if isinstance(one, str) else dict(one) for one in documents]
        request["extra_body"] = {"documents": listed}
    return request


def read_request(request: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The messages and documents of a request, checked.

    Raises:
        ContractError: ZO100, it is no request; ZO151, its conversation is empty.
    """
    from zoo.io import conversation

    messages, documents = conversation(request)
    if not messages:
        raise ContractError(
            "request.messages is empty", path=("messages",), code="ZO151", hint=f"write {EXAMPLE}"
        )
    return messages, documents


def check_unmarked(
    request: Mapping[str, Any],
    arguments: Mapping[str, Any],
    prompter: Prompter,
    invocation: Invocation,
    *,
    written: bool,
) -> None:
    """Refuses a request whose own text holds the invocation.

    The adapter acts from the last occurrence on, so a text that holds it could move the place.

    Args:
        request: the caller's.
        arguments: the caller's, for the instruction.
        prompter: of the base.
        invocation: the adapter's.
        written: whether somebody else than the caller writes the invocation. Otherwise he writes it, into
            the last message.

    Raises:
        ContractError: ZO152, at the path of the text; see `read_request`.
    """
    messages, documents = read_request(request)
    own = () if written else ("messages", len(messages) - 1, "content")
    for path, text in _texts(messages, documents, arguments):
        if path != own and (invocation.text in text or occurrences(prompter.encode(text), invocation.ids)):
            raise ContractError(
                f"{_spelt(path)} holds the invocation {invocation.text!r}",
                path=path,
                code="ZO152",
                hint="take it out: the adapter would act from there on",
            )


def caller_writes(invocation: Invocation, instruction: str | None) -> bool:
    """Whether the caller has to write the invocation into his last message himself."""
    inside = invocation.position is Position.IN_MESSAGE
    return inside and invocation.text.strip() not in (instruction or "")


def _texts(
    messages: Sequence[Message], documents: Sequence[Mapping[str, Any]], arguments: Mapping[str, Any]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for index, message in enumerate(messages):
        yield ("messages", index, "content"), message.get("content") or ""
    for index, document in enumerate(documents):
        for key, value in document.items():
            if isinstance(value, str):
                yield ("extra_body", "documents", index, key), value
    for name, argument in arguments.items():
        if isinstance(argument, str):
            yield ("arguments", name), argument


def _spelt(path: Sequence[str | int]) -> str:
    return "request" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
