"""Reads YAML of one document into plain data, within bounds, and remembers where everything stands.

A tree is built from the parser's events, so that an alias, a key that stands twice or a nest of ten thousand
brackets is met before anything was expanded.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import SpecError

MAX_BYTES = 256_000  # the largest published io.yaml has 3 kB
MAX_DEPTH = 40
MAX_NODES = 10_000
PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}
SPOKEN = frozenset({"yes", "no", "on", "off", "y", "n"})  # the booleans of YAML 1.1 that read like words

Path = tuple[str | int, ...]
Place = tuple[int, int]  # line and column, both from 1


@dataclass(kw_only=True)
class Tree:
    """A YAML document.

    Attributes:
        name: the file's, for messages.
        data: lists, dicts and scalars.
        places: line and column of each key and list element, by path.
        words: paths at which an unquoted yes, no, on or off became a boolean; a key's path for keys.
        keys: paths at which a key is not a string.
        blocks: of literal block scalars, the line of their first character and their indent in columns.
    """

    name: str
    data: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    words: dict[Path, str] = field(default_factory=dict)
    keys: dict[Path, object] = field(default_factory=dict)
    blocks: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Line and column of the deepest part of `path` that the file has."""
        for size in range(len(path), -1, -1):
            if path[:size] in self.places:
                return self.places[path[:size]]
        return (1, 1)

    def error(self, message: str, path: Path, *, code: str, hint: str = "") -> SpecError:
        """An error about what stands at `path`."""
        return fault(self.name, self.place(path), message, code=code, hint=hint)


def fault(name: str, place: Place, message: str, *, code: str, hint: str = "") -> SpecError:
    """An error at a line and column."""
    return SpecError(f"{name}:{place[0]}:{place[1]}: {message}", code=code, hint=hint)


def dotted(path: Path) -> str:
    """A path as people write it: `transformations[0].input_path`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_tree(raw: bytes, *, name: str) -> Tree:
    """Parses YAML.

    Raises:
        SpecError: ZO001 not YAML in UTF-8, or not one document; ZO002 out of bounds; ZO003 a key twice; ZO004
            an alias, an anchor or a tag; ZO005 a value that JSON does not have.
    """
    import yaml

    if len(raw) > MAX_BYTES:
        raise fault(name, (1, 1), f"is larger than {MAX_BYTES:,} bytes", code="ZO002")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise fault(name, (line, 1), "is not UTF-8", code="ZO001") from None
    tree = Tree(name=name)
    try:
        _Builder(tree, text, yaml.SafeLoader(text)).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise fault(
            name, place, f"is not valid YAML: {error.problem or error.context}", code="ZO001"
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise fault(name, (line, 1), f"holds a character that YAML does not allow, U+{_ordinal(error):04X}",
                    code="ZO001") from None  # fmt: skip
    return tree


def _ordinal(error: Any) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character)


class _Builder:
    """Turns one document's events into a tree."""

    def __init__(self, tree: Tree, text: str, loader: Any) -> None:
        self.tree, self.lines, self.loader, self.nodes = tree, text.splitlines(), loader, 0

    def read(self) -> None:
        """Reads the whole stream."""
        import yaml

        self.loader.get_event()  # the stream's start
        if self.loader.check_event(yaml.StreamEndEvent):
            raise fault(self.tree.name, (1, 1), "is empty", code="ZO001")
        self.loader.get_event()  # the document's
        self.tree.data = self._node((), 0)
        self.loader.get_event()
        if not self.loader.check_event(yaml.StreamEndEvent):
            mark = self.loader.peek_event().start_mark
            raise fault(self.tree.name, _place(mark), "holds a second document", code="ZO001")

    def _node(self, path: Path, depth: int) -> Any:
        import yaml

        event = self.loader.get_event()
        self.nodes += 1
        self.tree.places.setdefault(path, _place(event.start_mark))
        self._bound(event, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return list(self._elements(path, depth))
        return self._mapping(path, depth)

    def _bound(self, event: Any, depth: int) -> None:
        import yaml

        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise fault(self.tree.name, place, "aliases and anchors are not allowed", code="ZO004",
                        hint="write the value out")  # fmt: skip
        if event.tag is not None and event.tag != "!":
            raise fault(self.tree.name, place, f"tags are not allowed: {event.tag[:60]}", code="ZO004")
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise fault(self.tree.name, place,
                        f"is nested more than {MAX_DEPTH} deep, or has more than {MAX_NODES:,} values",
                        code="ZO002")  # fmt: skip

    def _elements(self, path: Path, depth: int) -> Iterator[Any]:
        import yaml

        index = 0
        while not self.loader.check_event(yaml.SequenceEndEvent):
            yield self._node((*path, index), depth + 1)
            index += 1
        self.loader.get_event()

    def _mapping(self, path: Path, depth: int) -> dict[Any, Any]:
        import yaml

        found: dict[Any, Any] = {}
        while not self.loader.check_event(yaml.MappingEndEvent):
            event = self.loader.get_event()
            self.nodes += 1
            self._bound(event, depth)
            place = _place(event.start_mark)
            if not isinstance(event, yaml.ScalarEvent):
                raise fault(self.tree.name, place, "a key must be a word", code="ZO005")
            key = self._value(event)
            here: Path = (*path, key if isinstance(key, str) else str(key))
            if key in found:  # also 1 and true, which are one key to Python
                raise fault(self.tree.name, place, f"the key {event.value[:60]!r} stands twice", code="ZO003")
            self.tree.places[here] = place
            if not isinstance(key, str):
                self.tree.keys[here] = key
                self._word(event, key, here)
            found[key] = self._node(here, depth + 1)
        self.loader.get_event()
        return found

    def _scalar(self, event: Any, path: Path) -> Any:
        value = self._value(event)
        self._word(event, value, path)
        if event.style == "|":
            first = event.start_mark.line + 1
            self.tree.blocks[path] = (first + 1, self._indent(event.value, first))
        return value

    def _indent(self, text: str, first: int) -> int:
        """The columns that a literal block's lines lose; `first` is its first line, from 0."""
        for own, line in zip(text.split("\n"), self.lines[first:], strict=False):
            if own.strip():
                return len(line) - len(own)
        return 0

    def _word(self, event: Any, value: object, path: Path) -> None:
        if isinstance(value, bool) and event.value.lower() in SPOKEN:
            self.tree.words[path] = event.value

    def _value(self, event: Any) -> Any:
        import yaml

        tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        place = _place(event.start_mark)
        if tag == "tag:yaml.org,2002:merge":
            raise fault(self.tree.name, place, "merging mappings (<<) is not allowed", code="ZO004")
        if tag not in PLAIN:
            kind = tag.rpartition(":")[2]
            raise fault(
                self.tree.name, place, f"{event.value[:40]!r} is a {kind} to YAML: quote it", code="ZO005"
            )
        node = yaml.ScalarNode(tag, event.value, event.start_mark, event.end_mark, event.style)
        try:
            value = self.loader.construct_object(node)
        except ValueError as error:
            raise fault(self.tree.name, place, f"no number: {str(error)[:80]}", code="ZO005") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise fault(self.tree.name, place, f"{event.value[:40]!r} is not a finite number", code="ZO005")
        return value


def _place(mark: Any) -> Place:
    return (mark.line + 1, mark.column + 1)


def walk(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value with its path, parents first."""
    stack = [(path, data)]
    while stack:
        here, value = stack.pop()
        yield here, value
        if isinstance(value, Mapping):
            stack.extend(((*here, str(key)), child) for key, child in value.items())
        elif isinstance(value, list):
            stack.extend(((*here, index), child) for index, child in enumerate(value))
