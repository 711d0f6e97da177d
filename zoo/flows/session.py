"""What `zoo flow run` and `zoo flow score` do, from files to text."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.errors import RefusedError, SpecError, UsageError
from zoo.flows.account import account, render_account, to_document
from zoo.flows.checks import check_flow
from zoo.flows.data import read_rows
from zoo.flows.execution import FlowRun, StepRecord, run_flow
from zoo.flows.flow import Flow
from zoo.flows.measure import measure
from zoo.flows.models import Models, find_base
from zoo.flows.records import Records
from zoo.flows.request import FlowRequest, read_request
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.provenance import folder_digest, payload_digests, sha256_bytes
from zoo.report import Severity
from zoo.specs.document import read_bounded
from zoo.specs.flow import BASE
from zoo.specs.reference import DATA

MAX_REQUEST_BYTES = 16_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How models are run.

    Attributes:
        base: as `--base`; empty for the flow's own.
        device: a torch device.
        dtype: of the base's weights.
    """

    base: str = ""
    device: str = "cpu"
    dtype: Dtype = "float32"


def run_request(flow: Flow, request: str, settings: Settings, *, as_json: bool) -> tuple[str, int]:
    """Answers one request.

    Args:
        flow: opened.
        request: a file's path, or `-` for stdin.
        settings: how models are run.
        as_json: JSON with every step's record, or text.

    Returns:
        What to print, and the exit code.

    Raises:
        ZooError: the flow, the request or a step is wrong, or a model cannot be had.
    """
    refuse_wrong(flow)
    given = _request(request)
    models = Models.open(flow, **asdict(settings))
    run = run_flow(flow.spec, given, models)
    return (_document(run) if as_json else _text(run)), 0


def score_data(
    flow: Flow,
    data: Path | None,
    records: Path | None,
    settings: Settings,
    *,
    as_json: bool,
    progress: Progress = silent,
) -> tuple[str, int]:
    """Scores a flow and its controls.

    Args:
        flow: opened.
        data: JSONL (`zoo.flows.data`).
        records: where entries are kept; None keeps them in memory.
        settings: how models are run.
        as_json: JSON, or a table.
        progress: told of each row.

    Returns:
        What to print, and the exit code.

    Raises:
        ZooError: the flow, the data or the records are wrong, or a model cannot be had.
    """
    refuse_wrong(flow)
    if data is None:
        raise UsageError(
            "zoo flow score wants data", hint="--data data.jsonl; zoo explain ZO310 shows a line"
        )
    rows = read_rows(data)
    kept = Records.open(records, fingerprint(flow, settings)) if records else Records()
    try:
        answerer = Models.open(flow, **asdict(settings))
        measured = measure(flow.spec, rows, answerer, records=kept, progress=progress)
    finally:
        kept.close()
    found = account(flow.spec, rows, measured)
    text = (
        json.dumps(to_document(found), indent=2, ensure_ascii=False) + "\n"
        if as_json
        else render_account(found)
    )
    return text, found.exit_code


def refuse_wrong(flow: Flow) -> None:
    """Refuses a flow in which a check found an error.

    Raises:
        RefusedError: with the first error, its code and place.
    """
    wrong = [(r, f) for r, f in check_flow(flow).findings() if f.severity is Severity.ERROR]
    if wrong:
        result, finding = wrong[0]
        line = f":{finding.location.line}" if finding.location else ""
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        hint = f"zoo flow check {flow.path} says all of it"
        raise RefusedError(f"{flow.path.name}{line}: {finding.message}{more}", hint=hint, code=result.code)


def fingerprint(flow: Flow, settings: Settings) -> dict[str, str]:
    """What the entries of a scoring run depend on, by name."""
    spec = flow.spec.model_dump(mode="json", exclude={"description", "name", "base"})
    if flow.spec.score.reference.head == DATA:
        spec.pop("score")  # looked up afresh each time
    base = find_base(flow, settings.base)
    adapters = {
        f"adapter {step.use}": folder_digest(payload_digests(flow.folder(step)))
        for step in flow.spec.steps
        if step.use != BASE
    }
    return {
        "flow": sha256_bytes(json.dumps(spec, sort_keys=True).encode()),
        "base": base.revision or base.weights_sha256,
        "dtype": settings.dtype,
        **adapters,
    }


def _request(name: str) -> FlowRequest:
    if name == "-" and sys.stdin.isatty():
        raise UsageError("zoo flow run wants a request", hint="--request FILE; zoo explain ZO313 shows one")
    raw = (
        sys.stdin.buffer.read(MAX_REQUEST_BYTES)
        if name == "-"
        else read_bounded(Path(name), MAX_REQUEST_BYTES)
    )
    try:
        return read_request(json.loads(raw))
    except (ValueError, RecursionError) as error:
        label = "stdin" if name == "-" else Path(name).name
        raise SpecError(f"{label} is not JSON: {str(error)[:100]}", code="ZO313") from None


def _document(run: FlowRun) -> str:
    content: dict[str, Any] = {
        "format": 1,
        "output": dict(run.output),
        "abstained": run.abstained,
        "seconds": round(run.seconds, 3),
        "steps": [_record(record) for record in run.steps],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _record(record: StepRecord) -> dict[str, Any]:
    content: dict[str, Any] = {"id": record.id, "state": record.state}
    if record.reason:
        content["reason"] = record.reason
    content["result"] = record.result
    if answered := record.answered:
        content |= {
            "text": answered.text,
            "seconds": round(answered.seconds, 3),
            "tokens": {"prompt": answered.prompt_tokens, "reused": answered.reused_tokens},
        }
    return content


def _text(run: FlowRun) -> str:
    lines = [run.response or "(no response)", ""]
    for name, value in run.output.items():
        if name != "response" and value is not None:
            lines.append(f"{name}: {json.dumps(value, ensure_ascii=False)}")
    return "\n".join([*lines, *map(_line, run.steps)]) + "\n"


def _line(record: StepRecord) -> str:
    if record.answered is None:
        return f"  {record.id}: {record.state}, {record.reason}"
    answered, shown = record.answered, json.dumps(record.result, ensure_ascii=False)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}…"
    return (
        f"  {record.id}: {shown}  {answered.seconds:.2f} s, "
        f"{answered.reused_tokens} of {answered.prompt_tokens} prompt tokens were in the cache"
    )
