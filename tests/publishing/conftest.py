"""The real client of this process, told to talk to a Hub on loopback; checks replaced by made-up outcomes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import HubServer
from tests.hub.this_process import connect
from tests.releases import report_on, write_release
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.provenance import payload_digests
from zoo.publishing import repository, stage
from zoo.render.json import from_document
from zoo.report import Report
from zoo.specs.lock import Lock

REPO = "org/relevance"
COMMIT_PATH = r"/api/models/org/relevance/commit/main"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty Hub, and the client's settings as its environment would have made them; plain LFS."""
    with HubServer() as server:
        connect(server, tmp_path / "home", monkeypatch)
        monkeypatch.setattr(repository, "RETRY_SECONDS", (0.0, 0.0, 0.0))
        yield server


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release 0.1.0, not published."""
    return write_release(tmp_path / "release")


Outcomes = Callable[..., None]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> Outcomes:
    """Makes validation end with the given outcomes; passed unless told."""

    def use(*arguments: Any, **settings: Any) -> None:
        def validate(path: Path, **_: Any) -> Report:
            return report_on(path, *arguments, **settings)

        monkeypatch.setattr(stage, "validate", validate)

    use()
    return use


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def commits(hub: HubServer) -> int:
    return len(
        [one for one in hub.requests.matching("POST", COMMIT_PATH) if one.handled and one.status == 200]
    )


def published(hub: HubServer, folder: Path, revision: str = "main") -> dict[str, bytes]:
    """What is on the Hub, checked for being one whole release with a card and a lock that belong to it."""
    content = hub.store.contents(REPO, revision)
    content.pop(".gitattributes")
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    lock = Lock.model_validate_json(content["zoo.lock.json"])
    assert lock.files == payload_digests(folder)
    assert lock.evidence is not None
    card = render_card(AdapterRepo.open(folder), from_document(lock.evidence), hub_id=REPO)
    assert content["README.md"].decode() == card
    return content
