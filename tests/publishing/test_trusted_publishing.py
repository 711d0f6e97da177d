"""A CI job that publishes with its identity instead of a token; and no token in anything that is printed.

Real processes of the command line, since the client reads its identity from the environment when it starts.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.publishing.spawner import Spawner, spawner
from tests.releases import write_release

REPO = "org/relevance"
IDENTITY = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyZXBvOm9yZy9hZGFwdGVycyJ9.c2lnbmF0dXJlLW9mLXRoZS1pc3N1ZXI"
Start = Callable[..., Spawner]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.store.create(REPO)
        yield server


@pytest.fixture
def start(hub: HubServer, tmp_path: Path) -> Iterator[Start]:
    """Starts a process that has the CI job's environment, or another one."""
    opened = []

    def begin(**settings: str) -> Spawner:
        identity = {"HF_OIDC_RESOURCE": REPO, "HF_OIDC_ID_TOKEN": IDENTITY}
        environment = hub.environment(tmp_path / "home", xet=False, token="") | identity | settings
        opened.append(spawner(tmp_path, environment, checked=False))
        return opened[-1].__enter__()

    yield begin
    for one in opened:
        one.__exit__(None, None, None)


def tokens(hub: HubServer) -> list[str]:
    """Everything that must never be seen: the identity, its signature, and what the Hub gave for it."""
    return [IDENTITY, IDENTITY.rpartition(".")[2], *hub.store.accounts]


@pytest.mark.parametrize("options", [(), ("--pr",), ("--json",)])
def test_an_identity_is_exchanged_and_publishes_to_its_one_repository(
    hub: HubServer, start: Start, tmp_path: Path, options: tuple[str, ...]
) -> None:
    hub.store.trusted[IDENTITY] = REPO
    command = ["publish", write_release(tmp_path / "release"), "--repo", REPO, "--base", tmp_path, *options]
    process = start(HF_DEBUG="1", ZOO_DEBUG="1")
    assert process.run(*command) == 0, (tmp_path / "log").read_text()
    assert hub.store.tags(REPO) == {"v0.1.0": hub.store.head(REPO)}
    accounts = {one.account for one in hub.requests.writes()}
    assert accounts == {"trusted-publisher", None}  # an upload's link is signed, and bears no token
    assert process.run(*command) == 0
    printed = (tmp_path / "log").read_text()
    assert "published" in printed
    assert [one for one in tokens(hub) if one in printed] == []
    content = b"".join(hub.store.contents(REPO).values()).decode(errors="replace")
    assert [one for one in tokens(hub) if one in content] == []


@pytest.mark.parametrize("reason", ["not trusted", "another repository", "no answer"])
def test_an_identity_that_is_not_trusted_stops_it_and_is_not_shown(
    hub: HubServer, start: Start, tmp_path: Path, reason: str
) -> None:
    if reason == "another repository":
        hub.store.trusted[IDENTITY] = "org/other"
    if reason == "no answer":
        hub.faults.add(Fault(path="/oauth/token", drop="before", times=None))
    command = ["publish", write_release(tmp_path / "release"), "--repo", REPO, "--base", tmp_path]
    assert start(ZOO_DEBUG="1").run(*command) == 3
    printed = (tmp_path / "log").read_text()
    assert "nothing was written" in printed
    assert [one for one in tokens(hub) if one in printed] == []
    assert [one for one in hub.requests.writes() if one.handled and one.path != "/oauth/token"] == []
    assert hub.store.tags(REPO) == {}


def test_a_stored_token_is_never_shown_either_whatever_the_hub_answers(
    hub: HubServer, start: Start, tmp_path: Path
) -> None:
    token = "hf_abcdefghijklmnopqrstuvwxyz0123456789"
    hub.store.accounts[token] = hub.store.accounts[hub.token]
    process = start(HF_TOKEN=token, HF_OIDC_RESOURCE="", HF_OIDC_ID_TOKEN="", HF_DEBUG="1", ZOO_DEBUG="1")
    release = write_release(tmp_path / "release")
    for status in (400, 401, 403, 404, 409, 412, 413, 422, 500):
        hub.faults.add(Fault(path=r".*/commit/main", status=status, message=f"Bad {token}", times=None))
        assert process.run("publish", release, "--repo", REPO, "--base", tmp_path, "--json") in (1, 2, 3)
        hub.faults.clear()
    assert process.run("publish", release, "--repo", REPO, "--base", tmp_path, "--json") == 0
    printed = (tmp_path / "log").read_text()
    assert "(secret)" in printed  # it was in the Hub's own words
    assert token not in printed
    assert token[3:] not in printed
    assert json.dumps(token)[1:-1] not in b"".join(hub.store.contents(REPO).values()).decode(errors="replace")
