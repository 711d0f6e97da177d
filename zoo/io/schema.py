"""The reply's schema, compiled once for each contract."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError
from zoo.io.identity import Same, fresh

if TYPE_CHECKING:
    import jsonschema_rs

BACKTRACKS = 100_000  # of one pattern on one text
PATTERN_BYTES = 1_000_000
WHERE = ("response_format",)


def check_reply(value: Any, schema: Mapping[str, Any]) -> None:
    """Refuses a reply that breaks its schema.

    Args:
        value: plain JSON.
        schema: a JSON Schema; it must not be changed between calls.

    Raises:
        ContractError: ZO122, it breaks the schema; ZO133, the schema cannot be used.
    """
    validator = _validator(Same(schema))
    error = next(validator.iter_errors(value), None) if not validator.is_valid(value) else None
    if error is not None:
        raise ContractError(
            f"the reply breaks its schema: {error.message[:300]}",
            path=list(error.instance_path),
            hint="generate with the contract's schema as a constraint, and let the reply end",
            code="ZO122",
        )


@lru_cache(maxsize=256)
def _validator(schema: Same) -> "jsonschema_rs.Validator":
    import jsonschema_rs

    plain = fresh(schema.mapping, WHERE)
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
            f"the contract's response_format is no usable JSON Schema: {said}",
            path=WHERE,
            hint="references must stay inside the schema",
            code="ZO133",
        ) from None
