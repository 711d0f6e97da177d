"""Where an adapter's invocation goes in a prompt, and the prompt with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.adapter import AdapterRepo
from zoo.errors import ContractError, RefusedError
from zoo.prompts import Invocation, Prompt, Prompter
from zoo.specs.io import IOSpec
from zoo.specs.release import Position
from zoo.template_sandbox import render


def invocation_of(repo: AdapterRepo, spec: IOSpec | None, prompter: Prompter) -> tuple[Invocation, str]:
    """The invocation of an adapter, and a remark when its place had to be guessed.

    Args:
        repo: its ids are in `adapter_config.json`, its text and place in `zoo.yaml`.
        spec: its `io.yaml`.
        prompter: of the base.

    Raises:
        RefusedError: ZI001, it has none.
    """
    ids = tuple(repo.config.alora_invocation_tokens or ())
    if not ids:
        raise RefusedError(
            f"{repo.name} has no invocation: it is a plain LoRA",
            code="ZI001",
            hint=f"zoo convert {repo.root} OUT makes an activated LoRA of it",
        )
    if repo.release is not None:
        said = repo.release.invocation
        return Invocation(text=said.text, ids=ids, position=said.position), ""
    text = prompter.decode(ids)
    position = _guess(text, spec, prompter)
    note = f"there is no zoo.yaml: the invocation {text!r} is taken to be {position.value}"
    return Invocation(text=text, ids=ids, position=position), note


def place(
    messages: Sequence[Mapping[str, Any]],
    documents: Sequence[Mapping[str, Any]],
    prompter: Prompter,
    invocation: Invocation,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> Prompt:
    """Renders and tokenises a conversation, with the invocation in its place.

    Raises:
        RefusedError: ZT001, the template refuses it; ZI004, the invocation does not come out where it should.
        ContractError: ZO158, see `rendered`.
    """
    after = invocation.position is Position.AFTER_PROMPT
    text = rendered(messages, documents, prompter, generation_prompt=not after, tools=tools)
    if after:
        text += invocation.text
    prompt = prompter.locate(text, invocation, label="the request")
    if invocation.position is not Position.IN_MESSAGE and prompt.suffix != invocation.ids:
        raise RefusedError(
            f"the invocation {invocation.text!r} does not end the prompt: its tokens merge with their "
            "neighbours there, or the place is another",
            code="ZI004",
            hint="zoo validate says for which prompts",
        )
    return prompt


def rendered(
    messages: Sequence[Mapping[str, Any]],
    documents: Sequence[Mapping[str, Any]],
    prompter: Prompter,
    *,
    generation_prompt: bool,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> str:
    """The text of a conversation under the base's chat template.

    Raises:
        RefusedError: ZT001, the template refuses it.
        ContractError: ZO158, there are documents, and the template has no place for them.
    """
    if documents and not takes_documents(prompter):
        raise ContractError(
            f"the chat template of {prompter.base.id} has no place for documents",
            path=("extra_body", "documents"),
            code="ZO158",
            hint="write docs_as_message into io.yaml, or put the text into a message",
        )
    variables = prompter.variables(
        messages, generation_prompt=generation_prompt, tools=tools, documents=documents
    )
    return render(prompter.template, [variables])[0]


def takes_documents(prompter: Prompter) -> bool:
    """Whether the base's chat template looks at documents; one that does not drops them without a word."""
    return "documents" in prompter.template


def _guess(text: str, spec: IOSpec | None, prompter: Prompter) -> Position:
    if spec is not None and spec.instruction and text.strip() in spec.instruction:
        return Position.IN_MESSAGE
    opened = prompter.render([[{"role": "user", "content": "Hi"}]], generation_prompt=True)[0]
    return Position.GENERATION_PROMPT if opened.endswith(text) else Position.AFTER_PROMPT
