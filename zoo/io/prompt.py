"""The prompt of a request: rewritten by its contract, rendered, with the invocation in its place.

Inference asks for one prompt, training for thousands; both come from here, so that what an adapter is trained
on is what it will be run on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError, RefusedError
from zoo.io.documents import numbered
from zoo.io.rewriting import conversation, rewrite
from zoo.io.unmarked import check_unmarked
from zoo.prompts import Invocation, Prompt, Prompter
from zoo.specs.release import Position
from zoo.template_sandbox import render

if TYPE_CHECKING:
    from zoo.specs.io import IOSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a chat template is rendered with, and what messages call it.

    Attributes:
        messages: with `role` and `content`.
        documents: beside them.
        tools: function definitions, or None.
        label: of the prompt, in an error.
    """

    messages: Sequence[Mapping[str, Any]]
    documents: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] | None = None
    label: str = "the request"


def identified(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """A request whose documents have ids: those without one get their number. What is no request stays."""
    given: object = request
    extra = given.get("extra_body") if isinstance(given, Mapping) else None
    if not isinstance(extra, Mapping):
        return request
    documents = extra.get("documents")
    if not isinstance(documents, list) or not all(isinstance(one, Mapping) for one in documents):
        return request
    return {**request, "extra_body": {**extra, "documents": numbered(documents)}}


def rewritten(
    spec: "IOSpec | None",
    request: Mapping[str, Any],
    arguments: Mapping[str, Any],
    prompter: Prompter,
    invocation: Invocation,
) -> dict[str, Any]:
    """A caller's request as the model is sent it.

    Args:
        spec: the contract; None sends the request as it is.
        request: the caller's, its documents `identified`. It is not changed.
        arguments: values of the instruction's fields.
        prompter: of the base.
        invocation: the adapter's.

    Raises:
        ContractError: ZO100 to ZO109, see `rewrite`; ZO152, its own text holds the invocation.
    """
    messages, documents = conversation(request)
    said = spec.instruction if spec else None
    check_unmarked(messages, documents, arguments, prompter, invocation, instruction=said)
    return rewrite(spec, request, **arguments) if spec else dict(request)


def place(asked: Sequence[Asked], prompter: Prompter, invocation: Invocation) -> list[Prompt]:
    """Renders and tokenises conversations, each with the invocation in its place.

    Raises:
        RefusedError: ZT001, the template refuses one; ZI004, the invocation does not come out in its place.
        ContractError: ZO158 or ZO159, see `rendered`.
    """
    after = invocation.position is Position.AFTER_PROMPT
    texts = rendered(asked, prompter, generation_prompt=not after)
    prompts = []
    for one, text in zip(asked, texts, strict=True):
        whole = text + invocation.text if after else text
        prompt = prompter.locate(whole, invocation, label=one.label)
        if invocation.position is not Position.IN_MESSAGE and prompt.suffix != invocation.ids:
            raise RefusedError(
                f"{one.label}: the invocation {invocation.text!r} does not end the prompt: "
                "its tokens merge with their neighbours there, or the place is another",
                code="ZI004",
                hint="zoo validate says for which prompts",
            )
        prompts.append(prompt)
    return prompts


def rendered(asked: Sequence[Asked], prompter: Prompter, *, generation_prompt: bool) -> list[str]:
    """The texts of conversations under the base's chat template.

    A turn that only calls tools is rendered with an empty text, as servers do: few templates look for null.

    Raises:
        RefusedError: ZT001, the template refuses one.
        ContractError: ZO158, there are documents, and the template has no place for them; ZO159, likewise
            tool calls.

    Source: vLLM, entrypoints/chat_utils.py (`_parse_chat_message_content`).
    """
    if (
        any(message.get("tool_calls") for one in asked for message in one.messages)
        and "tool_calls" not in prompter.template
    ):
        raise ContractError(
            f"the chat template of {prompter.base.id} has no place for tool calls",
            path=("messages",),
            code="ZO159",
            hint="say in a message's content what was called and what came of it",
        )
    if any(one.documents for one in asked) and not takes_documents(prompter):
        raise ContractError(
            f"the chat template of {prompter.base.id} has no place for documents",
            path=("extra_body", "documents"),
            code="ZO158",
            hint="write docs_as_message into io.yaml, or put the text into a message",
        )
    variables = [
        prompter.variables(
            [{**message, "content": message.get("content") or ""} for message in one.messages],
            generation_prompt=generation_prompt,
            tools=one.tools,
            documents=one.documents,
        )
        for one in asked
    ]
    return render(prompter.template, variables)


def takes_documents(prompter: Prompter) -> bool:
    """Whether the base's chat template looks at documents; one that does not drops them without a word."""
    return "documents" in prompter.template
