"""Reading a YAML or JSON file into its model, within bounds, with errors that name the place."""

import json
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zoo.errors import NotFoundError, SpecError
from zoo.limits import few_values

MAX_DOCUMENT_BYTES = 4_000_000
MAX_VALUES = 400_000  # of a JSON document
MAX_YAML_BYTES = 1_000_000  # Python's YAML reads a few hundred kB a second
MAX_YAML_NODES = 20_000
MAX_YAML_DEPTH = 40
MAX_NUMBER = 100  # characters: a number to base 60, which YAML 1.1 has, takes quadratic time

Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path, model: type[Model], *, code: str = "") -> Model:
    """Reads a JSON file into `model`.

    Args:
        path: the file.
        model: its pydantic model.
        code: the stable code that an error carries.

    Raises:
        NotFoundError: there is no such file.
        SpecError: too large, not JSON in UTF-8, a key twice, or not what the model wants.
    """
    try:
        raw = read_bounded(path)
        few_values(raw, MAX_VALUES)
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=unique_pairs)
    except SpecError as error:
        error.code = code
        raise
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path.name} is not valid JSON: {str(error)[:120]}", code=code) from None
    return check(document, model, name=path.name, code=code)


def read_yaml(path: Path, model: type[Model], *, code: str = "") -> Model:
    """Reads a YAML file into `model`; see `parse_yaml` for what is refused.

    Raises:
        NotFoundError: there is no such file.
        SpecError: too large, not YAML, an alias, a key twice, or not what the model wants.
    """
    try:
        raw = read_bounded(path)
    except SpecError as error:
        error.code = code
        raise
    return check(parse_yaml(raw, name=path.name, code=code), model, name=path.name, code=code)


def parse_yaml(raw: bytes, *, name: str, code: str = "") -> Any:
    """Parses YAML bytes into plain lists, dicts and scalars.

    Refused are aliases, because they can expand without bound; tags, because they name types; and what is
    larger or deeper than what people write.

    Raises:
        SpecError: not YAML, out of bounds, an alias, a tag, or a key twice.
    """
    import yaml

    try:
        if len(raw) > MAX_YAML_BYTES:
            raise ValueError(f"it is larger than {MAX_YAML_BYTES:,} bytes")
        return yaml.load(raw, Loader=_loader())
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:160]
        raise SpecError(f"{name} is not valid YAML: {reason}", code=code) from None


@cache
def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        nodes = depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            if isinstance(event, yaml.events.AliasEvent) or event.anchor:
                raise yaml.YAMLError("aliases are not allowed")
            if event.tag not in (None, "!"):
                raise yaml.YAMLError("tags are not allowed")
            self.nodes += 1
            self.depth += 1
            if self.nodes > MAX_YAML_NODES or self.depth > MAX_YAML_DEPTH:
                raise yaml.YAMLError(f"more than {MAX_YAML_NODES:,} values, or {MAX_YAML_DEPTH} levels")
            node = super().compose_node(parent, index)
            self.depth -= 1
            if isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_NUMBER and node.tag in _NUMBERS:
                raise yaml.YAMLError(f"a number of more than {MAX_NUMBER} characters")
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            mapping = super().construct_mapping(node, deep=deep)
            if len(mapping) != len(node.value):
                raise yaml.YAMLError(f"a key stands twice near line {node.start_mark.line + 1}")
            return mapping

    return Loader


_NUMBERS = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"})


def check(document: object, model: type[Model], *, name: str, code: str = "") -> Model:
    """Turns parsed content into `model`.

    Raises:
        SpecError: naming the first key that is wrong and how many more there are.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        first = problems[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise SpecError(f"{name}: {where}: {first['msg']}{more}", code=code) from None


def read_bounded(path: Path, limit_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Reads a file that must be small.

    Raises:
        NotFoundError: there is no such file.
        SpecError: it is larger than `limit_bytes`.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit_bytes + 1)
    except IsADirectoryError:
        raise NotFoundError(f"{path} is a directory, not a file", hint="name a file in it") from None
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{path} does not exist", hint="check the path") from None
    if len(raw) > limit_bytes:
        raise SpecError(f"{path.name} is larger than {limit_bytes:,} bytes")
    return raw


def unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of a JSON text, for `json.loads(object_pairs_hook=…)`.

    Raises:
        ValueError: a key stands twice.
    """
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result
