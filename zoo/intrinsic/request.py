"""Requests: from a file or from arguments, and what must hold of them before anything is run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoo.errors import ContractError, SpecError
from zoo.intrinsic import limits
from zoo.io.documents import misplaced, numbered
from zoo.io.prompt import identified
from zoo.io.unmarked import spelt
from zoo.specs.document import unique_pairs

MAX_REQUEST_BYTES = 16_000_000
EXAMPLE = '{"messages": [{"role": "user", "content": "…"}], "extra_body": {"documents": [{"text": "…"}]}}'

Message = Mapping[str, Any]
Document = str | Mapping[str, Any]


def parse_request(raw: bytes | str, *, name: str) -> dict[str, Any]:
    """A chat-completions request from JSON text.

    Documents may stand in `extra_body.documents`, where servers want them, or at the top; those without an
    id get their number.

    Args:
        raw: JSON; bytes are UTF-8.
        name: what messages call it.

    Raises:
        SpecError: ZO150, too large, or not JSON, a key twice in it, or no object.
    """
    if len(raw) > MAX_REQUEST_BYTES:
        raise SpecError(f"{name} is larger than {MAX_REQUEST_BYTES:,} bytes", code="ZO150")
    try:
        document = json.loads(raw, object_pairs_hook=unique_pairs)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{name} is not valid JSON: {str(error)[:120]}", code="ZO150", hint=EXAMPLE) from None
    if not isinstance(document, dict):
        raise SpecError(f"{name} is not a JSON object", code="ZO150", hint=EXAMPLE)
    if "documents" in document:
        extra = document.get("extra_body") or {}
        if not isinstance(extra, dict) or "documents" in extra:
            raise SpecError(f"{name} has documents in two places", code="ZO150", hint=EXAMPLE)
        document["extra_body"] = {**extra, "documents": document.pop("documents")}
    return dict(identified(document))


def make_request(messages: Sequence[Message], documents: Sequence[Document] = ()) -> dict[str, Any]:
    """A request from its parts.

    Args:
        messages: with `role` and `content`.
        documents: texts, or objects with `text` and perhaps `title` and `doc_id`; those without an id get
            their number.

    Raises:
        ContractError: ZO100, one of them is no list, or something in it no message or document.
    """
    asked = _listed(messages, "messages", ("messages",))
    for index, message in enumerate(asked):
        if not isinstance(message, Mapping):
            raise _wrong("a message is an object with `role` and `content`", message, ("messages", index))
    request: dict[str, Any] = {"messages": [dict(message) for message in asked]}
    where = ("extra_body", "documents")
    given = _listed(documents or [], "documents", where)
    for index, document in enumerate(given):
        if not isinstance(document, str | Mapping):
            raise _wrong("a document is a text, or an object with `text`", document, (*where, index))
    if given:
        texts = [{"text": one} if isinstance(one, str) else one for one in given]
        request["extra_body"] = {"documents": numbered(texts)}
    return request


def _listed(value: object, name: str, path: tuple[str | int, ...]) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _wrong(f"{name} are a list", value, path)
    return list(value)


def _wrong(message: str, value: object, path: tuple[str | int, ...]) -> ContractError:
    return ContractError(
        f"{message}, not {str(value)[:40]!r}", path=path, code="ZO100", hint=f"write {EXAMPLE}"
    )


def read_request(
    request: Mapping[str, Any], *, rewritten: bool = False
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The messages and documents of a request, checked.

    Args:
        request: the caller's, or what a contract made of it.
        rewritten: whether it is the latter.

    Raises:
        ContractError: ZO100, it is no request, or has documents where nobody reads them; ZO151, its
            conversation is empty; ZO157, it wants a way of decoding that there is not.
    """
    from zoo.io import conversation

    messages, documents = conversation(request)
    for where in ((), ("extra_body",)):
        part: Mapping[str, Any] = (request.get("extra_body") or {}) if where else request
        if key := misplaced({k: v for k, v in part.items() if not where or k != "documents"}):
            raise ContractError(
                f"{spelt((*where, key))} would not be read: documents stand in extra_body.documents",
                path=(*where, key),
                code="ZO100",
                hint=f"write {EXAMPLE}",
            )
    limits.check(request, rewritten=rewritten)
    if not messages:
        raise ContractError(
            "request.messages is empty", path=("messages",), code="ZO151", hint=f"write {EXAMPLE}"
        )
    return messages, documents
