"""The sample requests that new ones are made like: of a `zoo.yaml`, or of a file of requests."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.adapter import RELEASE_NAME
from zoo.errors import NotFoundError, SpecError
from zoo.specs.document import check, read_bounded, read_yaml
from zoo.specs.release import ReleaseSpec, SampleRequest

MAX_BYTES = 16_000_000
MOST = 1000
KEYS = ("messages", "documents", "arguments")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequests:
    """Sample requests.

    Attributes:
        requests: what callers pass.
        origin: where they are from, for people; empty when there are none.
    """

    requests: Sequence[SampleRequest] = ()
    origin: str = ""

    @classmethod
    def read(cls, path: Path) -> "SampleRequests":
        """Reads a `zoo.yaml`, the one of a folder, or JSON lines with `messages`.

        Raises:
            NotFoundError: there is no such file.
            SpecError: ZM001, or ZD030 where a line is no request, or there is none.
        """
        if path.is_dir():
            path = path / RELEASE_NAME
        if not path.is_file():
            raise NotFoundError(f"{path} does not exist", hint="give a zoo.yaml, its folder, or a JSONL file")
        if path.suffix in (".yaml", ".yml"):
            found = _of_release(read_yaml(path, ReleaseSpec, code="ZM001"))
        else:
            found = _of_lines(path)
        if not found:
            raise SpecError(
                f"{path.name} holds no sample requests", code="ZD030", hint="write some `requests`"
            )
        return cls(requests=found, origin=f"{len(found)} sample requests of {path.name}")

    @classmethod
    def beside(cls, folder: Path) -> "SampleRequests":
        """Those of an adapter folder's own `zoo.yaml`; none where it has none.

        Raises:
            SpecError: ZM001, the file breaks its specification.
        """
        path = folder / RELEASE_NAME
        found = _of_release(read_yaml(path, ReleaseSpec, code="ZM001")) if path.is_file() else ()
        origin = f"{len(found)} sample requests of the adapter's {RELEASE_NAME}" if found else ""
        return cls(requests=found, origin=origin)


def _of_release(spec: ReleaseSpec) -> list[SampleRequest]:
    conversations = [SampleRequest(messages=list(messages)) for messages in spec.samples]
    return [*spec.requests, *conversations]


def _of_lines(path: Path) -> list[SampleRequest]:
    found: list[SampleRequest] = []
    for number, raw in enumerate(read_bounded(path, MAX_BYTES).split(b"\n"), start=1):
        if not raw.strip() or len(found) == MOST:
            continue
        label = f"{path.name}, line {number}"
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"{label} is not JSON ({str(error)[:60]})", code="ZD030") from None
        if not isinstance(row, dict):
            raise SpecError(f"{label} is no object with `messages`", code="ZD030")
        content = {key: row[key] for key in KEYS if key in row}
        found.append(check(content, SampleRequest, name=label, code="ZD030"))
    return found
