"""Documents as messages, for servers that take no documents beside the conversation."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import ContractError
from zoo.io.json_value import Path

PREAMBLE = "You have access to the following documents:\n\n"

_MISNAMED = frozenset(("document", "docs", "doc", "passages", "passage", "contexts", "context"))


def numbered(documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The documents, each with a `doc_id`: its own, or else its number, counted from 1.

    A number that another document has for its id is passed over.
    """
    taken = {str(document["doc_id"]) for document in documents if document.get("doc_id")}
    found = []
    for number, document in enumerate(documents, 1):
        name = str(number)
        while name in taken:
            name = str(int(name) + 1)
        if not document.get("doc_id"):
            taken.add(name)
            document = {**document, "doc_id": name}
        found.append(dict(document))
    return found


def misplaced(request: Mapping[str, Any]) -> str | None:
    """A key that nobody reads and that seems to hold documents: by its name, or by texts in a list."""
    for key, value in request.items():
        listed = isinstance(value, list | tuple) and len(value) > 0 and key != "messages"
        if value and (
            str(key).lower() in _MISNAMED
            or (listed and all(isinstance(one, Mapping) and "text" in one for one in value))
        ):
            return str(key)
    return None


def as_messages(documents: list[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    """The messages that stand for the documents, to be put before the conversation.

    Args:
        documents: as `zoo.io.request.read_request` returned them, sentence tags included.
        how: `string` (one user's message: a preamble and each document under its id), `json` (one user's
            message: a JSON list) or `roles` (one message for each, with the role `document ID`).

    Raises:
        ContractError: ZO107, a document has no `doc_id` and this form names it by that.

    Source: granite-common 0.4.1, intrinsics/input.py (move_documents_to_message).
    """
    if how == "json":
        return [{"role": "user", "content": json.dumps(documents)}]
    named = [(_id(document, index), document["text"]) for index, document in enumerate(documents)]
    if how == "roles":
        return [{"role": f"document {name}", "content": text} for name, text in named]
    listed = "\n\n".join(f"[Document {name}]\n{text}" for name, text in named)
    return [{"role": "user", "content": PREAMBLE + listed}]


def _id(document: dict[str, Any], index: int) -> str:
    name = document.get("doc_id")
    if not name:
        path: Path = ("extra_body", "documents", index, "doc_id")
        raise ContractError(
            "a document without an id, in a contract that shows documents by their ids",
            path=path,
            hint='give every document a "doc_id"',
            code="ZO107",
        )
    return str(name)
