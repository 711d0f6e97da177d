"""Reading a `flow.yaml`, within bounds, with errors that name line and column."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from zoo.errors import SpecError
from zoo.specs.document import read_bounded
from zoo.specs.flow import FLOW_FORMAT, FlowSpec
from zoo.specs.yaml_tree import MAX_BYTES, Place, Tree, dotted, read_tree

_HINT = "zoo explain ZO300 shows a whole flow.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowDocument:
    """A `flow.yaml` with the place of everything in it.

    Attributes:
        spec: what it says.
        tree: the YAML it was read from.
    """

    spec: FlowSpec
    tree: Tree

    def place(self, path: tuple[str | int, ...]) -> Place:
        """Line and column, from 1, of the deepest part of `path` that the file has."""
        return self.tree.place(path)


def read_flow(path: Path) -> FlowDocument:
    """Reads a flow file.

    Raises:
        NotFoundError: no such file.
        SpecError: see `parse_flow`.
    """
    return parse_flow(read_bounded(path, MAX_BYTES), name=path.name)


def parse_flow(raw: bytes, *, name: str) -> FlowDocument:
    """Reads a flow file's content.

    Args:
        raw: the file's bytes.
        name: what errors call it.

    Raises:
        SpecError: ZO001-ZO005, not YAML of one document within bounds (`zoo.specs.yaml_tree.read_tree`);
            ZO300, not what a flow file holds.
    """
    tree = read_tree(raw, name=name)
    if isinstance(tree.data, dict) and tree.data.get("format", FLOW_FORMAT) != FLOW_FORMAT:
        raise tree.error(
            f"format {tree.data['format']!r} is not known: this version reads {FLOW_FORMAT}",
            ("format",),
            code="ZO300",
        )
    try:
        return FlowDocument(spec=FlowSpec.model_validate(tree.data), tree=tree)
    except ValidationError as error:
        raise _explained(error, tree) from None


def _explained(error: ValidationError, tree: Tree) -> SpecError:
    problems = error.errors(include_url=False, include_input=False)
    first = problems[0]
    path: tuple[str | int, ...] = tuple(first["loc"])
    while (
        path and path not in tree.places
    ):  # a key that is missing, or the name pydantic gave a choice's branch
        path = path[:-1]
    match first["type"]:
        case "missing":
            what = f"{first['loc'][-1]} is missing"
        case "extra_forbidden":
            what = "there is no such key here"
        case _:
            what = first["msg"].removeprefix("Value error, ")
    where = f"{dotted(path)}: " if path else ""
    others = len({problem["loc"][: len(path)] for problem in problems}) - 1
    more = f" (and {others} more)" if others else ""
    return tree.error(f"{where}{what}{more}", path, code="ZO300", hint=_HINT)
