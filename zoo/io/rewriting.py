"""`rewrite`: from the caller's request to the request that the model is sent."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError
from zoo.io.documents import as_messages
from zoo.io.identity import fresh
from zoo.io.instruction import check_arguments, filled
from zoo.io.json_value import Budget
from zoo.io.request import documents_of, read_request
from zoo.io.sentences import places

if TYPE_CHECKING:
    from zoo.specs.io import IOSpec

TOP_LOGPROBS = 10


def rewrite(spec: "IOSpec", request: Mapping[str, Any], /, **arguments: Any) -> dict[str, Any]:
    """The request with the contract's prompt and parameters in it.

    In this order: sentence tags in the last message, the documents and the history; documents as messages;
    the instruction as a user's message; model, parameters and the reply's schema.

    Args:
        spec: the contract.
        request: an OpenAI chat-completions request; documents are in `extra_body.documents`. It is not
            changed.
        arguments: values of the instruction's fields, text or numbers.

    Returns:
        A new request that shares nothing with the arguments.

    Raises:
        ContractError: ZO100 to ZO109.

    Source: granite-common 0.4.1 and mellea 0.8.0, intrinsics/input.py (IntrinsicsRewriter).
    """
    read = read_request(request)
    check_arguments(spec.instruction, arguments)
    for place in places(read, spec.sentence_boundaries):
        if place.location == "documents":
            documents_of(read)[place.index]["text"] = place.tagged()
        else:
            read["messages"][place.index]["content"] = place.tagged()
    if spec.docs_as_message is not None:
        _move_documents(read, spec.docs_as_message)
    if spec.instruction is not None:
        messages = read["messages"]
        last = messages[-1].get("content") if messages else None
        said = filled(spec.instruction, arguments, last, Budget())
        messages.append({"role": "user", "content": said})
    _set_parameters(read, spec)
    return read


def conversation(request: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What a chat template is rendered with: the messages and the documents of a request.

    Raises:
        ContractError: ZO100 to ZO102, it is no request.
    """
    read = read_request(request)
    return read["messages"], documents_of(read)


def _move_documents(request: dict[str, Any], how: str) -> None:
    body = request.get("extra_body")
    if body and body.get("documents") is not None:
        request["messages"] = as_messages(body.pop("documents"), how) + request["messages"]


def _set_parameters(request: dict[str, Any], spec: "IOSpec") -> None:
    parameters = fresh(spec.parameters, ("parameters",)) if spec.parameters else {}
    if "messages" in parameters:
        raise ContractError(
            "the contract's parameters have messages, which would replace the conversation",
            path=("parameters", "messages"),
            hint="say it in the contract's instruction",
            code="ZO109",
        )
    body = parameters.pop("extra_body", {})
    if not isinstance(body, dict):
        raise ContractError(
            "the contract's extra_body is no mapping", path=("parameters", "extra_body"), code="ZO109"
        )
    if "documents" in body:
        raise ContractError(
            "the contract's parameters have documents, which would replace the request's",
            path=("parameters", "extra_body", "documents"),
            code="ZO109",
        )
    request |= parameters
    if spec.model is not None:
        request["model"] = spec.model
    if any(step.type == "likelihood" for step in spec.transformations):
        request |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    if spec.response_format is not None:
        body["structured_outputs"] = {"json": fresh(spec.response_format, ("response_format",))}
    if body:
        request["extra_body"] = (request.get("extra_body") or {}) | body
