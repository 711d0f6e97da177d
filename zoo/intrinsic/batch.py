"""Many requests from a file, their results into another; killed at any moment, it goes on where it stopped.

Every line of the input that is not blank gives one line of the output, in the same order. A line that cannot
be answered gives an error there, and the next is answered. Each output line carries a digest of what it
answers, so that results of another input, adapter or arguments are never taken for these.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zoo.errors import ContractError, DefectError, NotFoundError, SpecError, UsageError, ZooError
from zoo.intrinsic.intrinsic import Intrinsic
from zoo.intrinsic.request import MAX_REQUEST_BYTES, parse_request
from zoo.progress import Progress, silent

OWN_KEYS = ("id", "arguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """What a run did.

    Attributes:
        lines: of the input.
        found: how many of them an earlier run had answered.
        failed: lines whose result is an error, in all.
    """

    lines: int
    found: int
    failed: int

    def line(self) -> str:
        """In one line."""
        resumed = f", {self.found:,} of them before" if self.found else ""
        return f"{self.lines:,} lines answered{resumed}; {self.failed:,} failed"


def run_batch(
    intrinsic: Intrinsic,
    source: Path,
    target: Path,
    *,
    arguments: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> BatchRun:
    """Answers every line of `source`, a request each, into `target`.

    A line is a chat-completions request; besides it may have `id`, which the result repeats, and `arguments`
    for the intrinsic's instruction, which go before those given here.

    Args:
        intrinsic: what answers.
        source: JSON lines.
        target: made, or gone on with.
        arguments: for all lines.
        progress: told after every line.

    Raises:
        NotFoundError: there is no `source`.
        UsageError: ZO161, `target` holds results of something else, or another run is writing it.
    """
    from filelock import FileLock, Timeout

    if not source.is_file():
        raise NotFoundError(f"{source} does not exist", hint="check the path")
    if target.exists() and source.samefile(target):
        raise UsageError("the output is the input", hint="name another file")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(target.with_name(f".{target.name}.lock"), timeout=0):
            return _run(intrinsic, source, target, arguments or {}, progress)
    except Timeout:
        raise UsageError(
            f"another run is writing {target}", code="ZO161", hint="wait for it, or name another output"
        ) from None


def _run(
    intrinsic: Intrinsic, source: Path, target: Path, arguments: Mapping[str, Any], progress: Progress
) -> BatchRun:
    seed = _seed(intrinsic, arguments)
    total = sum(1 for _ in _lines(source))
    with target.open("a+b") as output:
        found, failed = _go_on(output, source, seed, target)
        progress("answer", done=found, total=total, note=f"{failed} failed" if failed else "")
        for index, (number, raw) in enumerate(_lines(source)):
            if index < found:
                continue
            record = _record(intrinsic, number, raw, seed, arguments)
            failed += "error" in record
            output.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            output.flush()
            progress("answer", done=index + 1, total=total, note=f"{failed} failed" if failed else "")
        os.fsync(output.fileno())
    return BatchRun(lines=total, found=found, failed=failed)


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    """Number and content of every line that is not blank; of one that is too long a part that is."""
    with source.open("rb") as stream:
        number = 0
        while raw := stream.readline(MAX_REQUEST_BYTES + 2):
            number += 1
            rest = raw
            while not rest.endswith(b"\n") and (rest := stream.readline(MAX_REQUEST_BYTES)):
                pass
            if raw.strip():
                yield number, raw.rstrip(b"\r\n")


def _go_on(output: BinaryIO, source: Path, seed: bytes, target: Path) -> tuple[int, int]:
    """Checks what an earlier run wrote, and cuts off a line it did not finish: (lines, failed ones)."""
    output.seek(0)
    whole, failed, index = 0, 0, 0
    expected = _lines(source)
    for raw in output:
        if not raw.endswith(b"\n"):
            break
        wanted = next(expected, None)
        try:
            record = json.loads(raw)
        except ValueError:
            record = None
        if wanted is None or not isinstance(record, dict) or record.get("key") != _key(seed, wanted[1]):
            raise UsageError(
                f"{target}, line {index + 1} is no result of this input, adapter and arguments",
                code="ZO161",
                hint="name another --output, or remove that one",
            )
        whole, index, failed = whole + len(raw), index + 1, failed + ("error" in record)
    output.truncate(whole)
    output.seek(0, os.SEEK_END)
    return index, failed


def _record(
    intrinsic: Intrinsic, number: int, raw: bytes, seed: bytes, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    record: dict[str, Any] = {"line": number, "key": _key(seed, raw)}
    try:
        request = parse_request(raw, name=f"line {number}")
        own = {key: request.pop(key) for key in OWN_KEYS if key in request}
        if "id" in own:
            record["id"] = own["id"]
        given = own.get("arguments", {})
        if not isinstance(given, dict):
            raise SpecError(f"line {number}: arguments are an object", code="ZO150")
        return record | {"result": intrinsic.ask(request, {**arguments, **given}).result}
    except DefectError:
        raise
    except ZooError as error:
        return record | {"error": as_error(error)}


def as_error(error: ZooError) -> dict[str, Any]:
    """The JSON form of an error."""
    said: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, ContractError):
        said["path"] = list(error.path)
    return said | ({"hint": error.hint} if error.hint else {})


def _seed(intrinsic: Intrinsic, arguments: Mapping[str, Any]) -> bytes:
    """Digest of what decides the results besides the request."""
    from zoo.provenance import payload_digests

    state = {
        "adapter": payload_digests(intrinsic.repo.root),
        "base": [intrinsic.shared.base.id, intrinsic.shared.base.revision],
        "arguments": dict(arguments),
    }
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).digest()


def _key(seed: bytes, raw: bytes) -> str:
    return hashlib.sha256(seed + raw).hexdigest()[:16]
