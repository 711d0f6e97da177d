"""Text of a caller's that holds the invocation: it would move the place from which the adapter acts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo.activation import occurrences
from zoo.errors import ContractError
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position


def check_unmarked(
    messages: Sequence[Mapping[str, Any]],
    documents: Sequence[Mapping[str, Any]],
    arguments: Mapping[str, Any],
    prompter: Prompter,
    invocation: Invocation,
    *,
    instruction: str | None,
) -> None:
    """Refuses a request whose own text holds the invocation.

    The adapter acts from the last occurrence on, so a text that holds it could move the place.

    Args:
        messages: the caller's.
        documents: the caller's.
        arguments: the caller's, for the instruction.
        prompter: of the base.
        invocation: the adapter's.
        instruction: of the contract. Where neither it nor the prompt's form writes the invocation, the caller
            does, into the last message.

    Raises:
        ContractError: ZO152, at the path of the text.
    """
    own = ("messages", len(messages) - 1, "content") if caller_writes(invocation, instruction) else ()
    for path, text in _texts(messages, documents, arguments):
        if path != own and (invocation.text in text or occurrences(prompter.encode(text), invocation.ids)):
            raise ContractError(
                f"{spelt(path)} holds the invocation {invocation.text!r}",
                path=path,
                code="ZO152",
                hint="take it out: the adapter would act from there on",
            )


def caller_writes(invocation: Invocation, instruction: str | None) -> bool:
    """Whether the caller has to write the invocation into his last message himself."""
    inside = invocation.position is Position.IN_MESSAGE
    return inside and invocation.text.strip() not in (instruction or "")


def spelt(path: Sequence[str | int]) -> str:
    """A place in a request, for people."""
    return "request" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _texts(
    messages: Sequence[Mapping[str, Any]],
    documents: Sequence[Mapping[str, Any]],
    arguments: Mapping[str, Any],
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
