"""A project's data as its author writes it: requests with the reply that is wanted, and what they train on.

The training file holds what the model will read at inference, because the same rewriter makes both.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import ContractError, RefusedError, SpecError
from zoo.io import conversation, rewrite
from zoo.io.schema import check_reply
from zoo.specs.document import check, read_bounded
from zoo.specs.io import IOSpec
from zoo.specs.release import SampleRequest

MAX_BYTES = 256_000_000
ROW_KEYS = {"messages", "documents", "arguments"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One line of a requests file.

    Attributes:
        line: 1-based, for messages to people.
        request: what a caller passes.
        answer: what the reply's JSON shall be.
        group: samples of one group never straddle training and held-out data; empty when not given.
    """

    line: int
    request: SampleRequest
    answer: Any
    group: str = ""


def read_requests(path: Path) -> list[Example]:
    """Reads a JSONL file of `messages`, `answer`, and optionally `documents`, `arguments`, `group`.

    Raises:
        NotFoundError: there is no such file.
        SpecError: ZO223, naming the line that breaks the form; or there is none.
    """
    lines = read_bounded(path, MAX_BYTES).split(b"\n")
    found = [_example(raw, line, path.name) for line, raw in enumerate(lines, start=1) if raw.strip()]
    if not found:
        raise SpecError(f"{path.name} holds no requests", code="ZO223")
    return found


def rendered(spec: IOSpec, examples: Sequence[Example], *, name: str) -> list[dict[str, Any]]:
    """The rows of a file for `zoo train`: each request rewritten by the contract, the answer as its text.

    Args:
        spec: the contract.
        examples: from `read_requests`.
        name: of the requests' file, for messages.

    Raises:
        SpecError: ZO223, the contract refuses a request, or an answer is not what its schema allows.
        RefusedError: ZO224, documents would be left out of the prompt.
    """
    return [_row(spec, example, f"{name}, line {example.line}") for example in examples]


def training_text(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _row(spec: IOSpec, example: Example, label: str) -> dict[str, Any]:
    try:
        if spec.reply_schema is not None:
            check_reply(example.answer, spec.reply_schema)
        rewritten = rewrite(spec, example.request.as_request(), **example.request.arguments)
        messages, documents = conversation(rewritten)
    except ContractError as error:
        raise SpecError(f"{label}: {error.code}: {error.message}", hint=error.hint, code="ZO223") from None
    if documents:
        raise RefusedError(
            f"{label}: its documents stand beside the conversation, and training data has no place for them",
            code="ZO224",
            hint="set docs_as_message in io.yaml",
        )
    said = [{"role": message["role"], "content": message["content"]} for message in messages]
    row = {"messages": said, "answer": json.dumps(example.answer, ensure_ascii=False)}
    return row | ({"group": example.group} if example.group else {})


def _example(raw: bytes, line: int, name: str) -> Example:
    label = f"{name}, line {line}"
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{label} is not JSON ({str(error)[:60]})", code="ZO223") from None
    if not isinstance(row, dict) or "answer" not in row:
        raise SpecError(f"{label} wants `messages` (a list) and `answer` (JSON)", code="ZO223")
    if unknown := sorted(row.keys() - ROW_KEYS - {"answer", "group"}):
        raise SpecError(f"{label} has an unknown key {unknown[0]!r}", code="ZO223")
    group = row.get("group", "")
    if not isinstance(group, str):
        raise SpecError(f"{label} has a `group` that is not a string", code="ZO223")
    request = {key: row[key] for key in ROW_KEYS & row.keys()}
    found = check(request, SampleRequest, name=label, code="ZO223")
    return Example(line=line, request=found, answer=row["answer"], group=group)
