"""Transformations of lists of records: explode, drop_duplicates, project, nest, merge_spans."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError
from zoo.io.json_value import Budget, Path
from zoo.io.reply_text import Leaf, without_places

if TYPE_CHECKING:
    from zoo.specs.io import DropDuplicates, Explode, Project

Record = dict[str, Any]


def explode(value: Any, step: "Explode", path: Path, budget: Budget) -> list[Record]:
    """One record for each element of a record's list; fields keep their order.

    Raises:
        ContractError: ZO102, too many records; ZO123, a record has no such field; ZO124, it is no list of
            records with a list there.
    """
    exploded = []
    for index, record in enumerate(records(value, path)):
        elements = field(record, step.target_field, (*path, index))
        if not isinstance(elements, list):
            raise wrong_kind("a list", elements, (*path, index, step.target_field))
        others = {key: item for key, item in record.items() if key != step.target_field}
        nodes, characters = _size(others)
        budget.spend((*path, index), nodes=len(elements) * nodes, characters=len(elements) * characters)
        for element in elements:
            # Not shared: a later transformation may change one record's part.
            fresh = _duplicate(others)
            exploded.append({key: element if key == step.target_field else fresh[key] for key in record})
    return exploded


def drop_duplicates(value: Any, step: "DropDuplicates", path: Path) -> list[Record]:
    """Of records with equal target fields one stays: the last one's content, at the first one's place.

    Raises:
        ContractError: ZO123, a record has no such field; ZO124, it is no list of records.

    Source: mellea 0.8.0, formatters/granite/intrinsics/output.py (DropDuplicates); in granite-common 0.4.1
        the transformation does nothing.
    """
    kept: dict[str, Record] = {}
    for index, record in enumerate(records(value, path)):
        fields = [field(record, name, (*path, index)) for name in step.target_fields]
        kept[identity(fields)] = record
    return list(kept.values())


def project(value: Any, step: "Project", path: Path) -> Any:
    """A record, or each record of a list, with the named fields only.

    Raises:
        ContractError: ZO123, a record has no such field; ZO124, it is no record; ZO131, two fields get one
            name.
    """
    names = step.retained_fields
    names = names if isinstance(names, dict) else {name: name for name in names}
    if len(set(names.values())) < len(names):
        raise ContractError("the contract gives two fields one name", path=path, code="ZO131")
    if isinstance(value, dict):
        return {new: field(value, old, path) for old, new in names.items()}
    return [
        {new: field(record, old, (*path, index)) for old, new in names.items()}
        for index, record in enumerate(records(value, path))
    ]


def records(value: Any, path: Path) -> list[Record]:
    """`value` as a list of records; raises ContractError ZO124."""
    if not isinstance(value, list):
        raise wrong_kind("a list of records", value, path)
    for index, record in enumerate(value):
        if not isinstance(record, dict):
            raise wrong_kind("a record", record, (*path, index))
    return value


def field(record: Record, name: str, path: Path) -> Any:
    """A record's field; raises ContractError ZO123."""
    if name not in record:
        raise ContractError(
            f"the record has no field {name!r}",
            path=path,
            hint=f"its fields: {', '.join(list(record)[:12]) or 'none'}",
            code="ZO123",
        )
    return record[name]


def wrong_kind(wanted: str, value: Any, path: Path) -> ContractError:
    """The error for a value that a transformation cannot work on."""
    said = value.value if isinstance(value, Leaf) else value
    kind = "null" if said is None else "an object" if isinstance(said, dict) else ""
    kind = "a list" if isinstance(said, list) else kind
    return ContractError(
        f"the contract needs {wanted} here and the reply has {kind or json.dumps(said)[:60]}",
        path=path,
        hint="the transformations must fit the reply's schema",
        code="ZO124",
    )


def identity(fields: Sequence[Any]) -> str:
    """A text that is equal for values that are equal as JSON: 1 and true differ, and so do 1 and "1"."""
    return json.dumps([without_places(item) for item in fields], sort_keys=True)


def _size(value: Any) -> tuple[int, int]:
    """Values in a value, itself included, and the characters of its texts."""
    said = value.value if isinstance(value, Leaf) else value
    if not isinstance(said, dict | list):
        return 1, len(said) if isinstance(said, str) else 0
    sizes = [_size(item) for item in (said.values() if isinstance(said, dict) else said)]
    return 1 + sum(nodes for nodes, _ in sizes), sum(characters for _, characters in sizes)


def _duplicate(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _duplicate(item) for key, item in value.items()}
    return [_duplicate(item) for item in value] if isinstance(value, list) else value
