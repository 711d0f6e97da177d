"""A Hub on loopback for what is read from one piece by piece."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.server import HubServer

REPO = "org/model"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty model repository, and this process' client told to talk to it."""
    from huggingface_hub import constants

    with HubServer() as server:
        for name, value in server.environment(tmp_path / "home", xet=False).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        server.store.create(REPO)
        yield server
