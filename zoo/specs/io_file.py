"""Reading an `io.yaml`: refusals and notes carry a code, a line and a column."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from zoo.errors import SpecError
from zoo.specs.io import IOSpec, reply_schemas
from zoo.specs.json_schema import SchemaFaultError, check_schema
from zoo.specs.json_text import JsonTextError, read_json_text
from zoo.specs.yaml_tree import MAX_BYTES, Path, Place, Tree, dotted, fault, read_tree, walk

EDITOR_LINE = "# yaml-language-server: $schema="
SWITCHES = ("additionalProperties", "unevaluatedProperties", "additionalItems", "unevaluatedItems",
            "uniqueItems", "items", "deprecated", "readOnly", "writeOnly", "strict")  # fmt: skip
OLD_SOURCES = {"last_turn": "last_message"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something about the file that is flagged and not refused.

    Attributes:
        code: its page.
        message: one sentence.
        path: what it is about.
    """

    code: str
    message: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class IODocument:
    """An `io.yaml` with the places of its parts.

    Attributes:
        spec: what it says.
        raw: what the file says, word for word; schemas that are JSON in a string are still strings.
        tree: the file's own tree.
        notes: flagged, not refused.
    """

    spec: IOSpec
    raw: Mapping[str, Any]
    tree: Tree
    notes: tuple[Note, ...] = ()

    def place(self, path: Path) -> Place:
        """Line and column, from 1, of the deepest part of `path` that the file has."""
        return self.tree.place(path)

    @cached_property
    def name(self) -> str:
        """The file's name."""
        return self.tree.name


def read_io(path: FilePath) -> IOSpec:
    """Reads an `io.yaml`.

    Raises:
        NotFoundError: there is no such file.
        SpecError: ZO001 to ZO011, see `parse_io`.
    """
    return read_io_document(path).spec


def read_io_document(path: FilePath) -> IODocument:
    """Reads an `io.yaml` with the places of its parts.

    Raises:
        NotFoundError: there is no such file.
        SpecError: see `parse_io`.
    """
    from zoo.specs.document import read_bounded

    try:
        raw = read_bounded(path, MAX_BYTES)
    except SpecError as error:
        raise SpecError(error.message, code="ZO002", hint="a contract has a few kilobytes") from None
    return parse_io(raw, name=path.name)


def parse_io(raw: bytes, *, name: str) -> IODocument:
    """Parses the bytes of an `io.yaml`.

    Args:
        raw: YAML in UTF-8.
        name: what errors call the file.

    Raises:
        SpecError: ZO001 no YAML; ZO002 out of bounds; ZO003 a key twice; ZO004 alias, anchor or tag; ZO005 no
            JSON data; ZO006 not what the model wants; ZO007 a schema's text is no JSON; ZO008 a schema is
            none; ZO009 a reference in it; ZO010 an unquoted yes or no; ZO011 a pattern in it.
    """
    tree = read_tree(raw, name=name)
    if not isinstance(tree.data, dict):
        raise fault(name, (1, 1), "is not a mapping of fields", code="ZO001")
    _keys(tree)
    data, notes = _present_spelling(tree)
    _texts(tree, data)
    _words(tree)
    spec = _model(tree, data)
    for path, schema in reply_schemas(spec):
        try:
            check_schema(schema)
        except SchemaFaultError as error:
            whole = (*path, *error.path)
            raise tree.error(f"{dotted(whole)}: {error}", whole, code=error.code) from None
    notes += [
        Note(
            code="ZO010",
            message=f"{dotted(where)} is {word!r} unquoted, which YAML reads as a boolean",
            path=where,
        )
        for where, word in tree.words.items()
    ]
    return IODocument(spec=spec, raw=tree.data, tree=tree, notes=tuple(notes))


def _is_category(path: Path) -> bool:
    return len(path) == 4 and path[0] == "transformations" and path[2] == "categories_to_values"


def _keys(tree: Tree) -> None:
    """Keys are words, but categories may be booleans and integers."""
    for path, key in tree.keys.items():
        word = tree.words.get(path)
        if _is_category(path) and isinstance(key, bool | int):
            if word is None:
                continue
            raise tree.error(
                f"{word!r} is a boolean to YAML: quote it for the word, or write true or false",
                path, code="ZO010", hint=f'write "{word}"',
            )  # fmt: skip
        said = word if word is not None else str(key)
        raise tree.error(f"the key {said!r} is no word to YAML: quote it", path,
                         code="ZO010" if word else "ZO005")  # fmt: skip


def _words(tree: Tree) -> None:
    """In a schema an unquoted yes or no is meant as a word, but where only a boolean can stand."""
    for path, word in tree.words.items():
        if path[-1] in SWITCHES:
            continue
        if path[:1] == ("response_format",) or "schema" in path or {"guided_json", "json"} & set(path):
            message = f"{word!r} is a boolean to YAML: quote it"
            raise tree.error(message, path, code="ZO010", hint=f'write "{word}"')


def _present_spelling(tree: Tree) -> tuple[dict[str, Any], list[Note]]:
    """The file's data in today's spelling; the tree is left as it is."""
    data, notes = dict(tree.data), []
    if data.get("sentence_boundaries") is False:
        notes.append(_old("sentence_boundaries: false is the spelling of 2025; leave it out or write null",
                          ("sentence_boundaries",)))  # fmt: skip
    rules = data.get("transformations")
    if isinstance(rules, list):
        data["transformations"] = [_rule(rule, index, notes) for index, rule in enumerate(rules)]
    for path, _ in walk(data.get("parameters"), ("parameters",)):
        if path[-1] == "guided_json":
            notes.append(_old("guided_json is vLLM's spelling before 0.12; response_format does it", path))
    return data, notes


def _rule(rule: Any, index: int, notes: list[Note]) -> Any:
    if not isinstance(rule, dict):
        return rule
    here: Path = ("transformations", index)
    present = dict(rule)
    if present.get("output_name", "") is None:
        del present["output_name"]
        notes.append(
            _old("output_name is not in the format any more; null said nothing", (*here, "output_name"))
        )
    if (source := present.get("source")) in list(OLD_SOURCES):
        present["source"] = OLD_SOURCES[source]
        notes.append(_old(f"{source} is now {OLD_SOURCES[source]}", (*here, "source")))
    return present


def _old(message: str, path: Path) -> Note:
    return Note(code="ZO012", message=message, path=path)


def _texts(tree: Tree, data: dict[str, Any]) -> None:
    """Parses schemas that are JSON in a string, and adds the places of their parts."""
    if isinstance(data.get("response_format"), str):
        data["response_format"] = _text(tree, ("response_format",), data["response_format"])
    for path, value in walk(data.get("parameters"), ("parameters",)):
        if path[-1] in ("guided_json", "json", "schema") and isinstance(value, str):
            _text(tree, path, value)


def _text(tree: Tree, path: Path, text: str) -> Any:
    if not text.strip():
        return None
    try:
        value, places = read_json_text(text)
    except JsonTextError as error:
        place = _inside(tree, path, text, error.offset)
        raise fault(tree.name, place, f"{dotted(path)}: {error}", code=error.code) from None
    if not isinstance(value, dict | None):
        raise tree.error(f"{dotted(path)}: a schema is an object", path, code="ZO008")
    if path in tree.blocks:
        for part, offset in places.items():
            if part:
                tree.places.setdefault((*path, *part), _inside(tree, path, text, offset))
    return value


def _inside(tree: Tree, path: Path, text: str, offset: int) -> Place:
    """Where a character of a literal block stands in the file; elsewhere the place of its key."""
    if path not in tree.blocks:
        return tree.place(path)
    line, indent = tree.blocks[path]
    column = offset - (text.rfind("\n", 0, offset) + 1)
    return (line + text.count("\n", 0, offset), indent + column + 1)


def _model(tree: Tree, data: dict[str, Any]) -> IOSpec:
    try:
        return IOSpec.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    # a misspelt field is a missing one too, and the misspelling says more
    first = min(
        problems, key=lambda one: (one["type"] != "extra_forbidden", tree.place(_path(data, one["loc"])))
    )
    path = _path(data, first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    message, hint = first["msg"], ""
    if first["type"] == "extra_forbidden":
        message = "there is no such field"
        near = get_close_matches(str(path[-1]), _known(data, path), n=1)
        hint = f"did you mean {near[0]}?" if near else ""
    elif "input_path" in path[:-1]:
        message, more = "a part of a path is a key, an index from 0, or null", ""
    elif first["type"] == "missing":
        message = f"the field {first['loc'][-1]} is missing"
    raise tree.error(f"{dotted(path) or 'the file'}: {message}{more}", path, code="ZO006", hint=hint)


def _known(data: Any, path: Path) -> list[str]:
    """The fields that stand where `path` ends."""
    from zoo.specs.io import TRANSFORMATIONS

    if len(path) == 1:
        return list(IOSpec.model_fields)
    kind = data["transformations"][path[1]].get("type") if path[0] == "transformations" else ""
    return list(TRANSFORMATIONS[kind].model_fields) if kind in TRANSFORMATIONS else []


def _path(data: Any, location: tuple[int | str, ...]) -> Path:
    """The part of pydantic's location that is in the file: it also names union members and keys."""
    path: list[str | int] = []
    for part in location:
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, dict) and part in data:
            data, part = data[part], str(part)
        else:
            continue
        path.append(part)
    return tuple(path)
