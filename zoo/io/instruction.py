"""The instruction: a format template with plain names, filled with arguments and appended as a message."""

from collections.abc import Mapping
from functools import lru_cache
from string import Formatter
from typing import Any

from zoo.errors import ContractError
from zoo.io.json_value import Budget, copied

LAST_MESSAGE = "last_message"
WHERE = ("instruction",)


@lru_cache(maxsize=64)
def fields_of(template: str) -> tuple[tuple[str, str], ...]:
    """The template's parts: literal text, and the name of the field that follows it (empty at the end).

    Raises:
        ContractError: ZO108, a brace is alone, or a field is more than a plain name.

    Source: Python's format strings (string.Formatter.parse), of which attributes, indices, conversions and
    format specifications are left out: they can reach into objects.
    """
    parts = []
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise _refused(f"the template's braces do not match: {error}") from None
    for literal, name, specification, conversion in parsed:
        if name is not None and (specification or conversion or not name.isidentifier()):
            shown = name[:40] + (f"!{conversion}" if conversion else "") + (":…" if specification else "")
            raise _refused(f"the template's field {{{shown}}} is not a plain name")
        parts.append((literal, name or ""))
    return tuple(parts)


def check_arguments(template: str | None, arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that the template does not name, and the lack of one that it does.

    Raises:
        ContractError: ZO105, one is missing; ZO106, one too many; ZO108, the template cannot be used.
    """
    names = {name for _, name in fields_of(template) if name} if template else set()
    if LAST_MESSAGE in arguments:
        raise ContractError(
            f"{LAST_MESSAGE} is taken from the request and cannot be an argument",
            path=(LAST_MESSAGE,),
            code="ZO106",
        )
    for name in sorted(names - {LAST_MESSAGE} - arguments.keys()):
        raise ContractError(
            f"the instruction needs the argument {name!r}",
            path=(name,),
            hint=f"pass {name}=…",
            code="ZO105",
        )
    for name in sorted(arguments.keys() - names):
        wanted = ", ".join(sorted(names - {LAST_MESSAGE})) or "none"
        raise ContractError(
            f"the instruction has no field for the argument {name[:80]!r}",
            path=(name,),
            hint=f"its arguments: {wanted}",
            code="ZO106",
        )


def filled(template: str, arguments: Mapping[str, Any], last_message: str | None, budget: Budget) -> str:
    """The template with its fields replaced.

    Args:
        template: whose arguments `check_arguments` has accepted.
        arguments: text or a number for each field.
        last_message: the last message's text as the model sees it; None when there is none.
        budget: what the result may use up.

    Raises:
        ContractError: ZO102, the result is too long; ZO103, the template quotes a last message that is not
            there; ZO106, an argument is neither text nor a number.
    """
    said = []
    for literal, name in fields_of(template):
        said.append(literal)
        if not name:
            continue
        if name == LAST_MESSAGE:
            if last_message is None:
                raise ContractError(
                    "the instruction quotes the last message, and there is none",
                    path=("messages",),
                    code="ZO103",
                )
            value = last_message
        else:
            value = _argument(name, arguments[name])
        budget.spend(WHERE, characters=len(value))
        said.append(value)
    return "".join(said)


def _argument(name: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise ContractError(
            f"the argument {name!r} is a {type(value).__name__}, not text or a number",
            path=(name,),
            hint="write it as the text that the adapter was trained with",
            code="ZO106",
        )
    return f"{copied(value, (name,), Budget())}"


def _refused(message: str) -> ContractError:
    return ContractError(
        message, path=WHERE, hint="double the braces that are meant as text: {{ and }}", code="ZO108"
    )
