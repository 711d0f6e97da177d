"""The reply's schema, compiled once for each contract."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError
from zoo.io.identity import Same, fresh
from zoo.io.json_value import Path

if TYPE_CHECKING:
    import jsonschema_rs

    from zoo.specs.io import IOSpec

BACKTRACKS = 100_000  # of one pattern on one text
PATTERN_BYTES = 1_000_000
WHERE: Path = ("response_format",)


def schema_of(spec: "IOSpec") -> tuple[Path, Mapping[str, Any]] | None:
    """Where a contract gives its reply's schema, and the schema: one object for all calls; None without.

    Raises:
        ContractError: ZO133, the schema is text and no JSON.
    """
    return _schema_of(Same(spec))


@lru_cache(maxsize=256)
def _schema_of(spec: Same) -> tuple[Path, Mapping[str, Any]] | None:
    from zoo.specs.io import reply_schemas

    try:
        return next(iter(reply_schemas(spec.value)), None)
    except (ValueError, RecursionError):
        raise ContractError(
            "the reply's schema is text and no JSON", path=("parameters",), code="ZO133"
        ) from None


def check_reply(value: Any, schema: Mapping[str, Any], where: Path = WHERE) -> None:
    """Refuses a reply that breaks its schema.

    Args:
        value: plain JSON.
        schema: a JSON Schema; it must not be changed between calls.
        where: it stands in the contract.

    Raises:
        ContractError: ZO122, it breaks the schema; ZO133, the schema cannot be used.
    """
    validator = _validator(Same(schema), where)
    error = next(validator.iter_errors(value), None) if not validator.is_valid(value) else None
    if error is not None:
        raise ContractError(
            f"the reply breaks its schema: {error.message[:300]}",
            path=list(error.instance_path),
            hint="generate with the contract's schema as a constraint, and let the reply end",
            code="ZO122",
        )


@lru_cache(maxsize=256)
def _validator(schema: Same, where: Path) -> "jsonschema_rs.Validator":
    import jsonschema_rs

    plain = fresh(schema.value, where)
    try:
        return jsonschema_rs.validator_for(
            plain,
            offline=True,
            pattern_options=jsonschema_rs.FancyRegexOptions(
                backtrack_limit=BACKTRACKS, size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES
            ),
        )
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        said = re.sub(r"\s+", " ", str(error))[:200]
        raise ContractError(
            f"the contract's {'.'.join(map(str, where))} is no usable JSON Schema: {said}",
            path=where,
            hint="references must stay inside the schema",
            code="ZO133",
        ) from None
