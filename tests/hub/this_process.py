"""The client of this very process, told to talk to a Hub on loopback."""

from pathlib import Path

import pytest

from tests.hub.server import HubServer


def connect(server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the client the settings that its environment would have given it; large files go by plain LFS.

    The environment is not enough: the client reads most of it when it is imported, which may be long ago.

    Args:
        server: the Hub.
        home: folder for the client's cache and settings.
        monkeypatch: of the test, at whose end the client is as it was.
    """
    from huggingface_hub import constants

    for name, value in server.environment(home, xet=False).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
