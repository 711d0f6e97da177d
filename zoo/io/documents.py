"""Documents as messages, for servers that take no documents beside the conversation."""

import json
from typing import Any

from zoo.errors import ContractError
from zoo.io.json_value import Path

PREAMBLE = "You have access to the following documents:\n\n"


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
