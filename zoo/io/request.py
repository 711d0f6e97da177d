"""A chat-completions request, read: its messages and documents, copied and checked."""

from collections.abc import Mapping
from typing import Any, TypeGuard

from zoo.errors import ContractError
from zoo.io.json_value import Budget, copied

DOCUMENT_FIELDS = ("text", "title", "doc_id")
FEW, SHORT = 256, 1_000_000  # records or fields, and characters of all: well within what may be read


def read_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an OpenAI chat-completions request that this package may change.

    Documents are in `extra_body.documents`; they keep the fields that the published executors know (`text`,
    `title`, `doc_id`), because a chat template may print all of a document's fields.

    Raises:
        ContractError: ZO100, it is no such request; ZO101 or ZO102, a value in it.

    Source: granite-common 0.4.1, base/types.py (ChatCompletion, Document, VLLMExtraBody).
    """
    if not isinstance(request, Mapping):
        raise ContractError(f"a request of type {type(request).__name__}", code="ZO100")
    read = _copied(request)
    _check_messages(read.get("messages"))
    _check_objects(read.get("tools"), ("tools",))
    body = read.get("extra_body")
    if body is not None and not isinstance(body, dict):
        raise ContractError("extra_body is no mapping", path=("extra_body",), code="ZO100")
    if body and body.get("documents") is not None:
        body["documents"] = _documents(body["documents"])
    return read


def viewed_request(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """As `read_request`, for who changes nothing: messages and documents, not copied where they are plain.

    Raises:
        ContractError: as `read_request`.
    """
    parts = _plain_parts(request)
    if parts is None:
        return read_request(request)
    messages, documents = parts
    _check_messages(messages)
    return {"messages": messages, "extra_body": {"documents": _documents(documents)}}


def _copied(request: Mapping[str, Any]) -> dict[str, Any]:
    parts, budget = _plain_parts(request), Budget()
    if parts is None:
        copy: dict[str, Any] = copied(request, (), budget)
        return copy
    messages, documents = parts
    rest = {key: item for key, item in request.items() if key not in ("messages", "extra_body")}
    read: dict[str, Any] = copied(rest, (), budget)
    read["messages"] = [dict(message) for message in messages]
    if "extra_body" in request:
        body = request["extra_body"]
        if body is not None:
            others = {key: item for key, item in body.items() if key != "documents"}
            body = copied(others, ("extra_body",), budget)
            if "documents" in request["extra_body"]:  # null stays null; `_documents` copies the others
                body["documents"] = None if request["extra_body"]["documents"] is None else documents
        read["extra_body"] = body
    return read


def _plain_parts(request: Mapping[str, Any]) -> tuple[list[Any], list[Any]] | None:
    """Messages and documents, where they are a few records of short ASCII texts; else None.

    In such records nothing can be wrong but their form, so that copying and bounding each value is spared.
    """
    if type(request) is not dict:
        return None
    messages, body = request.get("messages"), request.get("extra_body")
    if body is not None and type(body) is not dict:
        return None
    documents = body.get("documents") if body else None
    documents = [] if documents is None else documents
    if not _is_plain(messages) or not _is_plain(documents):
        return None
    return messages, documents


def _is_plain(records: Any) -> TypeGuard[list[Any]]:
    if type(records) is not list or len(records) > FEW:
        return False
    characters = 0
    for record in records:
        if type(record) is not dict or len(record) > FEW:
            return False
        for key, value in record.items():
            if type(key) is not str or type(value) is not str or not key.isascii() or not value.isascii():
                return False
            characters += len(value)
    return characters <= SHORT


def documents_of(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The documents of a request that `read_request` returned; empty when there are none."""
    body = request.get("extra_body")
    return (body.get("documents") or []) if body else []


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list):
        raise ContractError(
            "a request without a list of messages",
            path=("messages",),
            hint='write {"messages": [{"role": "user", "content": "…"}]}',
            code="ZO100",
        )
    for index, message in enumerate(messages):
        path = ("messages", index)
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or not message["role"]:
            raise ContractError("a message without a role", path=path, code="ZO100")
        content = message.get("content")
        _check_objects(message.get("tool_calls"), (*path, "tool_calls"))
        if content is None and message["role"] == "assistant" and message.get("tool_calls"):
            continue  # a turn that only calls tools
        if not isinstance(content, str):
            raise ContractError(
                "a message whose content is not text",
                path=(*path, "content"),
                hint="contracts are about text: join the parts of the content into one string",
                code="ZO100",
            )


def _check_objects(value: Any, path: tuple[str | int, ...]) -> None:
    if value is None or (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
        return
    raise ContractError(
        f"{path[-1]} that are no list of objects",
        path=path,
        hint="leave them out, or write a list",
        code="ZO100",
    )


def _documents(documents: Any) -> list[dict[str, Any]]:
    where = ("extra_body", "documents")
    if not isinstance(documents, list):
        raise ContractError("documents that are no list", path=where, code="ZO100")
    return [_document(document, (*where, index)) for index, document in enumerate(documents)]


def _document(document: Any, path: tuple[str | int, ...]) -> dict[str, Any]:
    if not isinstance(document, dict) or not isinstance(document.get("text"), str):
        raise ContractError("a document without text", path=path, code="ZO100")
    for field in ("title", "doc_id"):
        said = document.get(field)
        if said is not None and not isinstance(said, str):
            raise ContractError(
                f"a document whose {field} is not text", path=(*path, field), hint="quote it", code="ZO100"
            )
    return {field: document[field] for field in DOCUMENT_FIELDS if field in document}
