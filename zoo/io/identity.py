"""Parts of a contract, read once: a contract is the same object for many requests."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from zoo.io.json_value import Budget, Path, copied


class Same:
    """A mapping as a cache's key, by identity; the key keeps it alive, so its identity stays its own."""

    __slots__ = ("mapping",)

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self.mapping = mapping

    def __hash__(self) -> int:
        return id(self.mapping)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.mapping is self.mapping


def fresh(mapping: Mapping[str, Any], path: Path) -> Any:
    """A plain copy of a part of a contract, which must not be changed between calls.

    Args:
        mapping: such as the contract's parameters.
        path: where it stands in the contract, for errors.

    Raises:
        ContractError: ZO101 or ZO102, it is no plain JSON.
    """
    return json.loads(_text(Same(mapping), path))


@lru_cache(maxsize=256)
def _text(key: Same, path: Path) -> str:
    return json.dumps(copied(key.mapping, path, Budget()))
