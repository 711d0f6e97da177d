"""A Hub on loopback for what is read from one piece by piece."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import HubServer
from tests.hub.this_process import connect

REPO = "org/model"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty model repository, and this process' client told to talk to it."""
    with HubServer() as server:
        connect(server, tmp_path / "home", monkeypatch)
        server.store.create(REPO)
        yield server
