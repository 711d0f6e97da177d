"""A Hub for each test, a way to send it raw requests, and a way to run a client against it."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.hub.server import HubServer


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a raw request; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a client process ended."""

    code: int
    output: str
    errors: str


Send = Callable[..., Answer]
StartClient = Callable[..., "subprocess.Popen[str]"]
RunClient = Callable[..., Ended]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A Hub with one repository, `org/name`, as new as `create_repo` leaves it."""
    with HubServer() as server:
        server.store.create("org/name")
        yield server


@pytest.fixture
def send(hub: HubServer) -> Send:
    """Sends one request, with the tester's token unless another or none is given."""

    def send(
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = hub.token,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        all_headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        all_headers |= headers or {}
        connection = HTTPConnection(urlsplit(hub.url).netloc, timeout=10)
        try:
            connection.request(method, path, content, all_headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    return send


@pytest.fixture
def start_client(hub: HubServer, tmp_path: Path) -> StartClient:
    """Starts Python code in a process whose client uses the Hub (`api` is there), with plain LFS."""

    def start(code: str, **settings: str) -> "subprocess.Popen[str]":
        names = "CommitOperationAdd, HfApi, hf_hub_download, snapshot_download"
        program = f"from huggingface_hub import {names}\napi = HfApi()\n{code}"
        environment = os.environ | hub.environment(tmp_path / "home", xet=False) | settings
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run_client(start_client: StartClient) -> RunClient:
    """Runs Python code like `start_client` to its end, and fails if it fails, unless `check` is false."""

    def run(code: str, *, check: bool = True, **settings: str) -> Ended:
        with start_client(code, **settings) as process:
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 0 or not check, errors
        return Ended(process.returncode, output.strip(), errors)

    return run


def commit_body(files: Mapping[str, bytes], parent: str | None = None) -> bytes:
    """The lines of a commit that writes regular files."""
    header = {"summary": "A commit"} | ({"parentCommit": parent} if parent else {})
    lines: list[dict[str, Any]] = [{"key": "header", "value": header}]
    for path, content in files.items():
        text = base64.b64encode(content).decode()
        lines.append({"key": "file", "value": {"path": path, "content": text, "encoding": "base64"}})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)
