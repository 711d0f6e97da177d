"""Reading a YAML or JSON file into its model, within bounds, with errors that name the place."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zoo.errors import NotFoundError, SpecError

MAX_DOCUMENT_BYTES = 4_000_000

Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path, model: type[Model], *, code: str = "") -> Model:
    """Reads a JSON file into `model`.

    Args:
        path: the file.
        model: its pydantic model.
        code: the stable code that an error carries.

    Raises:
        NotFoundError: there is no such file.
        SpecError: too large, not JSON, a key twice, or not what the model wants.
    """
    raw = read_bounded(path)
    try:
        document = json.loads(raw, object_pairs_hook=unique_pairs)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path.name} is not valid JSON: {str(error)[:120]}", code=code) from None
    return check(document, model, name=path.name, code=code)


def read_yaml(path: Path, model: type[Model], *, code: str = "") -> Model:
    """Reads a YAML file into `model`; aliases are refused, because they can expand without bound.

    Raises:
        NotFoundError: there is no such file.
        SpecError: too large, not YAML, an alias, a key twice, or not what the model wants.
    """
    return check(parse_yaml(read_bounded(path), name=path.name, code=code), model, name=path.name, code=code)


def parse_yaml(raw: bytes, *, name: str, code: str = "") -> Any:
    """Parses YAML bytes into plain lists, dicts and scalars.

    Raises:
        SpecError: not YAML, an alias, or a key twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases are not allowed")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            mapping = super().construct_mapping(node, deep=deep)
            if len(mapping) != len(node.value):
                raise yaml.YAMLError(f"a key stands twice near line {node.start_mark.line + 1}")
            return mapping

    try:
        return yaml.load(raw, Loader=Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise SpecError(f"{name} is not valid YAML: {reason}", code=code) from None


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
