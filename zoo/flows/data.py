"""Data to score a flow on: JSONL of conversations with documents, and whether these answer the question."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import ContractError, NotFoundError, SpecError
from zoo.flows.request import FlowRequest, read_request
from zoo.provenance import sha256_bytes

MAX_FILE_BYTES = 2_000_000_000
MAX_LINE_BYTES = 4_000_000
NEEDED = frozenset({"messages", "documents", "answerable"})
_LIKE = (
    '{"messages": [{"role": "user", "content": "…"}], "documents": [{"text": "…"}], '
    '"answerable": true, "faithfulness": 0.9}'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a data file.

    Attributes:
        line: 1-based.
        request: what the flow is asked.
        answerable: whether the documents answer it.
        fields: the line's other fields, for `data.FIELD`.
        digest: of the request and the label, in hex: the row's name in records.
    """

    line: int
    request: FlowRequest
    answerable: bool
    fields: Mapping[str, Any] = field(default_factory=dict)
    digest: str


def read_rows(path: Path) -> list[Row]:
    """Reads a data file whole. Empty lines are passed over.

    Raises:
        NotFoundError: no such file.
        SpecError: ZO310, naming the line; or the file holds no lines, or one twice.
    """
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist", hint=f"give a JSONL file with lines like {_LIKE}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SpecError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes", code="ZO310")
    rows: list[Row] = []
    seen: dict[str, int] = {}
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            if raw.strip():
                row = _row(raw, number, path.name)
                if row.digest in seen:
                    raise _broken(
                        path.name, number, f"is line {seen[row.digest]} again: it would count twice"
                    )
                seen[row.digest] = number
                rows.append(row)
    if not rows:
        raise SpecError(f"{path.name} holds no lines", code="ZO310", hint=f"a line looks like {_LIKE}")
    return rows


def _row(raw: bytes, line: int, name: str) -> Row:
    if len(raw) > MAX_LINE_BYTES:
        raise _broken(name, line, f"is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _broken(name, line, f"is not JSON ({str(error)[:60]})") from None
    if not isinstance(document, dict):
        raise _broken(name, line, "is not an object")
    if missing := sorted(NEEDED - document.keys()):
        raise _broken(name, line, f"has no `{missing[0]}`")
    if not isinstance(document["answerable"], bool):
        raise _broken(name, line, "has an `answerable` that is neither true nor false")
    try:
        request = read_request(document)
    except ContractError as error:
        raise _broken(name, line, f"has no good request: {error.message}") from None
    content = json.dumps([request.as_value(), document["answerable"]], sort_keys=True, ensure_ascii=False)
    return Row(
        line=line,
        request=request,
        answerable=document["answerable"],
        fields={key: value for key, value in document.items() if key not in NEEDED},
        digest=sha256_bytes(content.encode("utf-8", "surrogatepass")),
    )


def _broken(name: str, line: int, what: str) -> SpecError:
    return SpecError(f"{name}, line {line} {what}", code="ZO310", hint=f"a line looks like {_LIKE}")
