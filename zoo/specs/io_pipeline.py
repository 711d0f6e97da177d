"""Follows the shape of a reply through an `io.yaml`'s transformations, and says what cannot work.

The rules are those of the executor: what would be an error for some reply that the schema allows is a problem
here, found without a reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zoo.specs.io import (
    DecodeSentences,
    DropDuplicates,
    Explode,
    IOSpec,
    Likelihood,
    MergeSpans,
    Nest,
    Project,
    Transformation,
)
from zoo.specs.json_shape import (
    Anything,
    Array,
    Either,
    Origin,
    Record,
    Scalar,
    Shape,
    either,
    json_type,
    schema_of,
    shape_of,
)
from zoo.specs.shape_path import Kind, MisfitError, at, field_of, named, records_of, reordered, same_place

NUMBER = Scalar(types=frozenset({"number"}))
DECODED: Mapping[str, frozenset[str]] = {
    "begin": frozenset({"integer"}),
    "end": frozenset({"integer"}),
    "text": frozenset({"string"}),
    "document_id": frozenset({"string", "null"}),
    "message_index": frozenset({"integer", "null"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something in the transformations that does not fit.

    Attributes:
        kind: a path or an order that is impossible, a category, or something that cannot be known.
        message: one sentence.
        path: of the fault in the file.
        certain: some reply that the schema allows has no result; otherwise only worth a warning.
    """

    kind: Kind
    message: str
    path: tuple[str | int, ...]
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """What becomes of the reply's shape.

    Attributes:
        reply: the shape of the reply.
        result: the shape of the result; after a problem only a guess.
        problems: in the order of the transformations.
    """

    reply: Shape
    result: Shape
    problems: tuple[Problem, ...]


def trace(spec: IOSpec) -> Traced:
    """Follows the reply's shape through the transformations."""
    reply = shape_of(spec.reply_schema)
    shape, problems = reply, list[Problem]()
    if spec.transformations and isinstance(reply, Anything):
        problems.append(Problem(
            kind="unknown", message="no schema says what the reply is: its transformations are not checked",
            path=("response_format",), certain=False,
        ))  # fmt: skip
    for index, rule in enumerate(spec.transformations):
        tracer = _Tracer(rule=rule, index=index)
        try:
            shape = tracer.apply(shape)
        except MisfitError as misfit:
            tracer.say(str(misfit), misfit.key, kind=misfit.kind)
            problems += tracer.problems
            return Traced(reply=reply, result=Anything(), problems=tuple(problems))
        problems += tracer.problems
    return Traced(reply=reply, result=shape, problems=tuple(problems))


def result_schema(spec: IOSpec) -> dict[str, Any]:
    """A JSON Schema of what `zoo.io.process` returns; empty when nothing is known of it."""
    if not spec.transformations and spec.reply_schema is not None:
        return dict(spec.reply_schema)
    return schema_of(trace(spec).result)


@dataclass(kw_only=True)
class _Tracer:
    """One transformation on a shape."""

    rule: Transformation
    index: int
    problems: list[Problem] = field(default_factory=list)

    def say(self, message: str, key: str, *, kind: Kind = "path", certain: bool = True) -> None:
        where: tuple[str | int, ...] = ("transformations", self.index, *key.split("/"))
        self.problems.append(
            Problem(kind=kind, message=f"{self.rule.type}: {message}", path=where, certain=certain)
        )

    def apply(self, shape: Shape) -> Shape:
        rule, path = self.rule, self.rule.input_path
        self._wildcards(shape, path)
        match rule:
            case Likelihood():
                return at(shape, path, lambda value, here: self._likelihood(rule, value, here))
            case DecodeSentences():
                return self._decode(rule, shape)
            case Explode():
                return at(shape, path, lambda value, _: self._explode(rule, value))
            case DropDuplicates():
                return at(shape, path, lambda value, _: self._drop(rule, value))
            case Project():
                return at(shape, path, lambda value, _: self._project(rule, value))
            case Nest():
                return at(shape, path, lambda value, _: self._nest(rule, value))
            case MergeSpans():
                return at(shape, path, lambda value, _: self._merge(rule, value))

    def _wildcards(self, shape: Shape, path: Sequence[str | int | None]) -> None:
        """Says where a wildcard means the fields of an object, which is allowed and hardly ever meant."""
        for place, part in enumerate(path):
            if part is None:
                at(shape, path[:place], lambda value, here: self._wildcard(value, here))

    def _wildcard(self, value: Shape, here: Origin) -> Shape:
        if isinstance(value, Record):
            self.say(
                "a wildcard stands for every field of an object: name the field", "input_path", certain=False
            )
        return value

    def _likelihood(self, rule: Likelihood, value: Shape, here: Origin) -> Shape:
        numbers = list(rule.categories_to_values.values())
        if len(set(numbers)) == 1:
            self.say(
                "every category has the same number", "categories_to_values", kind="category", certain=False
            )
        if isinstance(value, Anything):
            return NUMBER
        if isinstance(value, Either):
            raise MisfitError("the value is of more than one kind there")
        if not isinstance(value, Scalar):
            raise MisfitError("there is no word or number there, but " + named(value))
        if not value.literal:
            raise MisfitError("an earlier transformation made this value: it has no tokens")
        if value.origin is None or not same_place(value.origin, here):
            self.say(
                "an earlier transformation has moved this value: granite-common and mellea find its tokens "
                "by its place in the reply, and fail here; put likelihood first",
                "input_path",
                certain=False,
            )
        self._categories(rule, value)
        return NUMBER

    def _categories(self, rule: Likelihood, value: Scalar) -> None:
        if value.values is None:
            raise MisfitError(f"the schema does not say which {'/'.join(sorted(value.types))}s there can "
                               "be: give it an enum", kind="category")  # fmt: skip
        given = {(json_type(key), key) for key in rule.categories_to_values}
        wanted = {(json_type(key), key) for key in value.values}
        for kind, key in sorted(wanted - given, key=str):
            self.say(f"the schema allows {key!r} ({kind}), which has no number", "categories_to_values",
                     kind="category")  # fmt: skip
        for kind, key in sorted(given - wanted, key=str):
            self.say(f"{key!r} ({kind}) is no value that the schema allows", f"categories_to_values/{key}",
                     kind="category")  # fmt: skip

    def _decode(self, rule: DecodeSentences, shape: Shape) -> Shape:
        if not rule.input_path:
            raise MisfitError("the sentence number must be a field of an object, not the whole reply")
        if not rule.output_names:
            self.say("output_names is empty, so nothing is decoded", "output_names", certain=False)
        names = list(rule.output_names.values())
        if len(set(names)) < len(names):
            raise MisfitError("two outputs have one name", key="output_names")
        *outer, last = rule.input_path
        return at(shape, outer, lambda value, here: self._decoded(rule, value, last, here))

    def _decoded(self, rule: DecodeSentences, value: Shape, last: str | int | None, here: Origin) -> Shape:
        match value:
            case Anything():
                return value
            case Either():
                return either([self._decoded(rule, option, last, here) for option in value.options])
            case Record():
                keys = list(value.fields) if last is None else [last]
                for key in keys:
                    self._sentence(field_of(value, key))
            case _:
                raise MisfitError(
                    "the sentence number must be a field of an object, and it is in " + named(value)
                )
        for name in rule.output_names.values():
            if name in value.fields and name not in keys:
                raise MisfitError(
                    f"the output {name!r} would overwrite the field of that name", key="output_names"
                )
        added: dict[str, Shape] = {
            name: Scalar(types=DECODED[role]) for role, name in rule.output_names.items()
        }
        if not {"documents"} & set(rule.sources) and "document_id" in rule.output_names:
            raise MisfitError("document_id is asked for, and documents is no source", key="output_names")
        if "all_but_last_message" not in rule.sources and "message_index" in rule.output_names:
            raise MisfitError(
                "message_index is asked for, and all_but_last_message is no source", key="output_names"
            )
        return Record(fields={**value.fields, **added}, optional=value.optional - added.keys())

    def _sentence(self, value: Shape) -> None:
        if isinstance(value, Anything):
            return
        if not isinstance(value, Scalar) or value.types != {"integer"}:
            raise MisfitError("the sentence number is " + named(value) + ", and must be an integer")
        if value.least is None or value.least < 0:
            self.say(
                "the schema allows negative sentence numbers: give it minimum 0", "input_path", certain=False
            )

    def _explode(self, rule: Explode, value: Shape) -> Shape:
        def one(record: Record) -> Shape:
            target = field_of(record, rule.target_field, "target_field")
            match target:
                case Anything():
                    item: Shape = target
                case Array():
                    item = either([*target.fixed, target.item]) if target.fixed else target.item
                case _:
                    raise MisfitError(
                        f"{rule.target_field!r} is {named(target)}, not a list", key="target_field"
                    )
            return replace(record, fields={**record.fields, rule.target_field: item})

        return reordered(records_of(value, one))

    def _drop(self, rule: DropDuplicates, value: Shape) -> Shape:
        if not rule.target_fields:
            raise MisfitError("without target_fields all records are equal", key="target_fields")

        def one(record: Record) -> Shape:
            for name in rule.target_fields:
                target = field_of(record, name, "target_fields")
                if not isinstance(target, Scalar | Anything):
                    self.say(f"{name!r} is {named(target)}, which mellea cannot compare", "target_fields",
                             certain=False)  # fmt: skip
            return record

        left = reordered(records_of(value, one))
        return replace(left, distinct=True) if isinstance(left, Array) else left

    def _project(self, rule: Project, value: Shape) -> Shape:
        names = list(rule.renamed.values())
        if len(set(names)) < len(names):
            raise MisfitError("two fields get one name", key="retained_fields")
        if not names:
            raise MisfitError("no field is kept", key="retained_fields")

        def one(record: Record) -> Shape:
            kept = {new: field_of(record, old, "retained_fields") for old, new in rule.renamed.items()}
            return Record(fields=kept)

        return one(value) if isinstance(value, Record) else records_of(value, one)

    def _nest(self, rule: Nest, value: Shape) -> Shape:
        if isinstance(value, Record) and list(value.fields) == [rule.field_name]:
            self.say(
                f"it is an object with just the field {rule.field_name!r} already",
                "field_name",
                certain=False,
            )
        return Record(fields={rule.field_name: value})

    def _merge(self, rule: MergeSpans, value: Shape) -> Shape:
        own = [rule.begin_field, rule.end_field, *([rule.text_field] if rule.text_field else [])]
        if len({*own, *rule.group_fields}) < len(own) + len(rule.group_fields):
            raise MisfitError("a field is named twice", key="begin_field")

        def one(record: Record) -> Shape:
            for key, types in (
                ("begin_field", {"integer"}),
                ("end_field", {"integer"}),
                ("text_field", {"string"}),
            ):
                if name := getattr(rule, key):
                    target = field_of(record, name, key)
                    if not isinstance(target, Anything) and not (
                        isinstance(target, Scalar) and target.types <= types
                    ):
                        raise MisfitError(f"{name!r} is {named(target)}", key=key)
            for name in rule.group_fields:
                if not isinstance(field_of(record, name, "group_fields"), Scalar | Anything):
                    what = f"{name!r} is {named(record.fields[name])}, which mellea cannot sort"
                    self.say(what, "group_fields", certain=False)
            if others := record.fields.keys() - {*own, *rule.group_fields}:
                raise MisfitError(f"the records have other fields too: {', '.join(sorted(others))}; "
                              "project them away first", key="group_fields")  # fmt: skip
            return record

        if isinstance(value, Array) and not value.distinct:
            self.say(
                "two equal records would begin at one place: put drop_duplicates before it", "group_fields"
            )
        left = reordered(records_of(value, one))
        return replace(left, distinct=True) if isinstance(left, Array) else left
