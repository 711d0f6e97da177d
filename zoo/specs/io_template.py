"""The instruction of an `io.yaml`: a format template, its fields, and the JSON that it shows the model."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from zoo.specs.json_shape import Anything, Array, Either, Record, Scalar, Shape

LAST_MESSAGE = "last_message"  # given by the executor
_KEY = re.compile(r'[{,]\s*"([^"\\{}]{1,100})"\s*:')
_SAID = re.compile(r'\bkeys?\s+["\'`]([^"\'`\\{}]{1,100})["\'`]')
PLACEHOLDER = "…"


class TemplateError(ValueError):
    """A template that cannot be filled in, whatever the arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """An instruction's parts.

    Attributes:
        fields: names to be filled in, in order, each once.
        text: the text with doubled braces undone and fields replaced by a placeholder.
    """

    fields: tuple[str, ...]
    text: str

    @property
    def arguments(self) -> tuple[str, ...]:
        """The fields that a caller gives."""
        return tuple(name for name in self.fields if name != LAST_MESSAGE)


def read_template(instruction: str) -> Template:
    """Parses a template.

    Raises:
        TemplateError: braces that do not match, or a field that is not a plain name.
    """
    fields: dict[str, None] = {}
    text = ""
    try:
        for literal, name, form, conversion in Formatter().parse(instruction):
            text += literal
            if name is None:
                continue
            _plain(name, form, conversion)
            fields[name] = None
            text += PLACEHOLDER
    except TemplateError:
        raise
    except ValueError as error:
        raise TemplateError(f"{error}: a brace that is text is written twice, {{{{ or }}}}") from None
    return Template(fields=tuple(fields), text=text)


def _plain(name: str, form: str | None, conversion: str | None) -> None:
    whole = "{" + name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "") + "}"
    shown = whole if len(whole) <= 60 else whole[:60] + "…"
    if not name.isidentifier() or form or conversion:
        raise TemplateError(
            f"{shown!r} is no plain name in braces; braces that are text are written twice, {{{{ and }}}}"
        )


def shown_keys(text: str) -> list[str]:
    """The keys that a text's JSON examples and sentences tell the model to write."""
    return list(dict.fromkeys([*_KEY.findall(text), *_SAID.findall(text)]))


def shown_values(text: str) -> Iterator[Any]:
    """The JSON objects and lists that stand in a text."""
    decoder, start = json.JSONDecoder(), 0
    while (match := re.compile(r"[{\[]").search(text, start)) is not None:
        start = match.start() + 1
        try:
            value, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        start = end
        if isinstance(value, Mapping) and value:
            yield value


def keys_of(shape: Shape) -> set[str] | None:
    """Every field name in a shape; None when a part of it is not known."""
    match shape:
        case Anything():
            return None
        case Scalar():
            return set()
        case Record():
            parts = [keys_of(child) for child in shape.fields.values()]
            return set(shape.fields).union(*(part or set() for part in parts))
        case Array():
            parts = [keys_of(child) for child in (shape.item, *shape.fixed)]
            return set[str]().union(*(part or set() for part in parts))
        case Either():
            parts = [keys_of(option) for option in shape.options]
            return None if None in parts else set[str]().union(*(part or set() for part in parts))


def disagreements(value: Any, shape: Shape) -> Iterator[str]:
    """Values of an example that the schema does not allow at their place."""
    match shape:
        case Record() if isinstance(value, Mapping):
            for key, child in value.items():
                if key in shape.fields:
                    yield from disagreements(child, shape.fields[key])
        case Scalar(values=tuple() as values) if not isinstance(value, Mapping | list):
            if value not in values and PLACEHOLDER not in str(value):
                yield json.dumps(value, ensure_ascii=False)[:60]
        case _:
            return
