"""Paths into shapes: what a transformation's `input_path` and field names find, if anything."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Literal

from zoo.specs.json_shape import Anything, Array, Either, Origin, Record, Scalar, Shape, either, moved

Kind = Literal["path", "category", "unknown"]
Change = Callable[[Shape, Origin], Shape]


class MisfitError(Exception):
    """A shape that a transformation cannot be applied to.

    Attributes:
        key: of the transformation, to blame.
        kind: what sort of fault it is.
    """

    def __init__(self, message: str, *, key: str = "input_path", kind: Kind = "path") -> None:
        """Makes an error."""
        super().__init__(message)
        self.key, self.kind = key, kind


def at(shape: Shape, path: Sequence[str | int | None], change: Change, here: Origin = ()) -> Shape:
    """The shape with `change` made to everything that `path` matches.

    Raises:
        MisfitError: a reply of this shape may have nothing there.
    """
    if not path:
        return change(shape, here)
    part, rest = path[0], path[1:]
    match shape:
        case Anything():
            return shape
        case Either():
            return either([at(option, path, change, here) for option in shape.options])
        case Record():
            if isinstance(part, int):
                raise MisfitError(f"{_said(here)} is an object, and the path goes on with {part}")
            names = list(shape.fields) if part is None else [part]
            changed = {name: at(field_of(shape, name), rest, change, (*here, name)) for name in names}
            return replace(shape, fields={**shape.fields, **changed})
        case Array() if part is None:
            fixed = [at(child, rest, change, (*here, index)) for index, child in enumerate(shape.fixed)]
            return replace(shape, item=at(shape.item, rest, change, (*here, None)), fixed=tuple(fixed))
        case Array() if isinstance(part, int):
            if part >= shape.least:
                raise MisfitError(f"there may be no element {part}: the list has {shape.least} or more")
            fixed = [*shape.fixed, *[shape.item] * (part + 1 - len(shape.fixed))]
            fixed[part] = at(fixed[part], rest, change, (*here, part))
            return replace(shape, fixed=tuple(fixed))
        case _:
            raise MisfitError(f"{_said(here)} is {named(shape)}, and the path goes on with {_part(part)}")


def field_of(record: Record, name: str | int | None, key: str = "input_path") -> Shape:
    """A record's field.

    Raises:
        MisfitError: there is none, or it may be absent.
    """
    if not isinstance(name, str) or name not in record.fields:
        near = get_close_matches(str(name), list(record.fields), n=1)
        known = f"; did you mean {near[0]!r}?" if near else f", only {', '.join(record.fields) or 'none'}"
        raise MisfitError(f"there is no field {name!r}{known}", key=key)
    if name in record.optional:
        raise MisfitError(f"the schema lets the field {name!r} be absent: make it required", key=key)
    return record.fields[name]


def records_of(value: Shape, one: Callable[[Record], Shape]) -> Shape:
    """A list of records with `one` made of each; anything else does not fit."""

    def each(item: Shape) -> Shape:
        match item:
            case Record():
                return one(item)
            case Either():
                return either([each(option) for option in item.options])
            case Anything():
                return item
            case _:
                raise MisfitError("the elements are " + named(item) + ", not objects")

    match value:
        case Array():
            fixed = tuple(each(child) for child in value.fixed)
            # a list whose elements are all fixed has no others to look at
            rest = value.item if isinstance(value.item, Anything) else each(value.item)
            return replace(value, item=rest, fixed=fixed)
        case Anything():
            return value
        case _:
            raise MisfitError("there is no list of objects there, but " + named(value))


def reordered(shape: Shape) -> Shape:
    """A list whose elements are not where the reply has them, nor as many."""
    if isinstance(shape, Array):
        item = either([*shape.fixed, shape.item]) if shape.fixed else shape.item
        return moved(Array(item=item))
    return shape


def same_place(origin: Origin, here: Origin) -> bool:
    """Whether a value still stands where the reply has it; None stands for any index."""
    return len(origin) == len(here) and all(
        one == other or (one is None and isinstance(other, int))
        for one, other in zip(origin, here, strict=True)
    )


def named(shape: Shape) -> str:
    """What a shape is, for a message."""
    match shape:
        case Scalar():
            return " or ".join(sorted(shape.types))
        case Record():
            return "an object"
        case Array():
            return "a list"
        case Either():
            return " or ".join(dict.fromkeys(named(option) for option in shape.options))
        case Anything():
            return "unknown"


def _part(part: str | int | None) -> str:
    return "a wildcard" if part is None else repr(part)


def _said(here: Origin) -> str:
    return ".".join("*" if part is None else str(part) for part in here) or "the reply"
