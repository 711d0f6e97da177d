"""The fields of a result: its shape as a flat list of places with what may stand there."""

from dataclasses import dataclass, replace

from zoo.specs.json_shape import Anything, Array, Either, Literal, Record, Scalar, Shape

TOP = "$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One place of a result.

    Attributes:
        place: from the top, `$`; `.name` for a field of an object, `[]` for the elements of a list.
        parent: the place that holds this one; empty for the top.
        types: JSON types of the values there; empty when anything may be there.
        values: the only scalars, None when they are not listed.
        always: whether it is there whenever the object that holds it is.
        least: the smallest number, None when there is no bound.
    """

    place: str
    parent: str
    types: frozenset[str]
    values: tuple[Literal, ...] | None = None
    always: bool = True
    least: float | None = None

    def describe(self) -> str:
        """The type in a few words."""
        kind = " or ".join(sorted(self.types)) or "anything"
        return kind if self.always else f"{kind}, may be missing"


def fields(shape: Shape) -> dict[str, Field]:
    """Every place of a shape, by its name, from the top down.

    Args:
        shape: of a result, as `zoo.specs.io_pipeline.trace` finds it.
    """
    return _walk(shape, place=TOP, parent="", always=True)


def _walk(shape: Shape, *, place: str, parent: str, always: bool) -> dict[str, Field]:
    here = Field(place=place, parent=parent, types=frozenset(), always=always)
    match shape:
        case Anything():
            return {place: here}
        case Scalar(types=types, values=values, least=least):
            return {place: replace(here, types=types, values=values, least=least)}
        case Record():
            found = {place: replace(here, types=frozenset({"object"}))}
            for name, inner in shape.fields.items():
                where = f"{place}.{_escaped(name)}"
                found |= _walk(inner, place=where, parent=place, always=name not in shape.optional)
            return found
        case Array():
            found = {place: replace(here, types=frozenset({"array"}))}
            for index, inner in enumerate(shape.fixed):
                found |= _walk(inner, place=f"{place}[{index}]", parent=place, always=index < shape.least)
            return found | _walk(shape.item, place=f"{place}[]", parent=place, always=True)
        case Either():
            return _joined([_walk(one, place=place, parent=parent, always=always) for one in shape.options])


def _joined(ways: list[dict[str, Field]]) -> dict[str, Field]:
    """What is at the places that several alternatives lead to; what only some lead to may be missing."""
    found: dict[str, Field] = {}
    for way in ways:
        for place, field in way.items():
            found[place] = _either(found[place], field) if place in found else field
    return {
        place: field if all(place in way for way in ways) else replace(field, always=False)
        for place, field in found.items()
    }


def _either(one: Field, other: Field) -> Field:
    anything = not one.types or not other.types
    return replace(
        one,
        types=frozenset() if anything else one.types | other.types,
        values=None if one.values is None or other.values is None else (*one.values, *other.values),
        always=one.always and other.always,
        least=None if one.least is None or other.least is None else min(one.least, other.least),
    )


def _escaped(name: str) -> str:
    return name if name.replace("-", "_").isidentifier() else repr(name)
