"""A flow's request: a conversation, its documents, and arguments for the steps that want some."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import ContractError

Message = Mapping[str, str]
Document = Mapping[str, Any]
KEYS = ("messages", "documents", "arguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRequest:
    """What a flow answers.

    Attributes:
        messages: chat messages, each with `role` and `content`.
        documents: each with `text`, and optionally `doc_id` and `title`.
        arguments: by name, for `request.arguments.NAME`.
    """

    messages: tuple[Message, ...]
    documents: tuple[Document, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def as_value(self) -> dict[str, Any]:
        """What `request.…` refers to."""
        return {
            "messages": [dict(message) for message in self.messages],
            "documents": [dict(document) for document in self.documents],
            "arguments": dict(self.arguments),
        }


def read_request(document: object) -> FlowRequest:
    """A request from JSON: `messages`, `documents`, `arguments`, or a chat-completions request.

    In the latter the documents are in `extra_body.documents`.

    Raises:
        ContractError: ZO313, at the path of what is wrong.
    """
    if not isinstance(document, Mapping):
        raise _wrong("a request is a JSON object with `messages`", ())
    extra = document.get("extra_body")
    extra = extra if isinstance(extra, Mapping) else {}
    documents = document.get("documents", extra.get("documents", []))
    arguments = document.get("arguments", {})
    if not isinstance(arguments, Mapping):
        raise _wrong("arguments are an object", ("arguments",))
    return FlowRequest(
        messages=tuple(read_messages(document.get("messages"))),
        documents=tuple(read_documents(documents)),
        arguments=dict(arguments),
    )


def read_messages(value: object, where: tuple[str | int, ...] = ("messages",)) -> list[Message]:
    """Checks that a value is a conversation.

    Raises:
        ContractError: ZO313, it is none.
    """
    if not isinstance(value, list | tuple) or not value:
        raise _wrong("messages are a list of `role` and `content`, and not an empty one", where)
    for index, message in enumerate(value):
        match message:
            case {"role": str(role), "content": str()} if role:
                continue
            case _:
                raise _wrong("a message has `role` and `content`, both texts", (*where, index))
    return [dict(message) for message in value]


def read_documents(value: object, where: tuple[str | int, ...] = ("documents",)) -> list[Document]:
    """Checks that a value is a list of documents.

    Raises:
        ContractError: ZO313, it is none.
    """
    if not isinstance(value, list | tuple):
        raise _wrong("documents are a list", where)
    for index, document in enumerate(value):
        match document:
            case {"text": str()}:
                continue
            case _:
                raise _wrong("a document has a `text`", (*where, index))
    return [dict(document) for document in value]


def _wrong(message: str, path: tuple[str | int, ...]) -> ContractError:
    at = "request" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    hint = '{"messages": [{"role": "user", "content": "…"}], "documents": [{"text": "…"}]}'
    return ContractError(f"{at}: {message}", path=path, code="ZO313", hint=hint)
