"""A chat-completions request, read: its messages and documents, copied and checked."""

from collections.abc import Mapping
from typing import Any

from zoo.errors import ContractError
from zoo.io.json_value import Budget, copied

DOCUMENT_FIELDS = ("text", "title", "doc_id")


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
    read: dict[str, Any] = copied(request, (), Budget())
    _check_messages(read.get("messages"))
    body = read.get("extra_body")
    if body is not None and not isinstance(body, dict):
        raise ContractError("extra_body is no mapping", path=("extra_body",), code="ZO100")
    if body and body.get("documents") is not None:
        body["documents"] = _documents(body["documents"])
    return read


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
        if content is None and message["role"] == "assistant":  # a turn that only calls tools
            continue
        if not isinstance(content, str):
            raise ContractError(
                "a message whose content is not text",
                path=(*path, "content"),
                hint="contracts are about text: join the parts of the content into one string",
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
        if not isinstance(document.get(field, ""), str | None):
            raise ContractError(
                f"a document whose {field} is not text", path=(*path, field), hint="quote it", code="ZO100"
            )
    return {field: document[field] for field in DOCUMENT_FIELDS if field in document}
