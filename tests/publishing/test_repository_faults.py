"""Publishing onto a Hub that misbehaves: what each fault leads to."""

from pathlib import Path
from typing import Any

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.publishing.conftest import COMMIT_PATH, REPO, commits, published
from tests.releases import write_release
from zoo.errors import (
    HubError,
    RefusedError,
    VerdictError,
)
from zoo.hub import UnavailableError
from zoo.publishing import repository
from zoo.release import publish

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


def test_somebody_committed_meanwhile(hub: HubServer, release: Path) -> None:
    hub.store.create(REPO)
    theirs = Fault(
        method="POST", path=COMMIT_PATH, meanwhile=lambda store: store.commit(REPO, {"theirs.txt": b"theirs"})
    )
    hub.faults.add(theirs)
    with pytest.raises(HubError, match="main moved") as stopped:
        publish(release, repo=REPO)
    assert stopped.value.code == "ZH003"
    assert stopped.value.exit_code == 3
    assert set(hub.store.contents(REPO)) == {".gitattributes", "theirs.txt"}
    assert hub.store.tags(REPO) == {}


@pytest.mark.parametrize("status", [429, 500, 502, 503])
@pytest.mark.parametrize(
    "path", [r".*/commit/main", r".*/tag/.*", r"/api/repos/create", r"/api/validate-yaml"]
)
def test_an_outage_is_waited_for(
    hub: HubServer, release: Path, status: int, path: str, tmp_path: Path
) -> None:
    fault = hub.faults.add(Fault(method="POST", path=path, status=status))
    assert publish(release, repo=REPO).commit == hub.store.head(REPO)
    assert fault.fired == 1
    assert commits(hub) == 1
    published(hub, tmp_path / "main", "v0.1.0")


def test_a_lasting_outage_ends_with_3_and_the_same_command_completes_it(
    hub: HubServer, release: Path
) -> None:
    hub.faults.add(Fault(method="POST", path=r".*/commit/main", status=503, times=None))
    with pytest.raises(UnavailableError) as stopped:
        publish(release, repo=REPO)
    assert (stopped.value.code, stopped.value.exit_code) == ("ZH008", 3)
    assert "again" in stopped.value.hint
    assert hub.store.tags(REPO) == {}
    hub.faults.clear()
    publish(release, repo=REPO)
    assert commits(hub) == 1


def test_the_time_to_wait_is_the_hubs_within_bounds(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("zoo.publishing.repository.time.sleep", waited.append)
    for seconds in ("7", "99999", "soon"):
        hub.faults.add(
            Fault(method="POST", path=r".*/commit/main", status=429, headers={"Retry-After": seconds})
        )
    publish(release, repo=REPO)
    assert [seconds for seconds in waited if seconds] == [7.0, 60.0]  # the Hub's threads sleep for 0.0
    assert commits(hub) == 1


@pytest.mark.parametrize("path", [r".*/commit/main", r".*/tag/.*", r"/api/repos/create"])
@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_lost_answer_makes_no_second_commit(
    hub: HubServer, release: Path, path: str, drop: Any, tmp_path: Path
) -> None:
    fault = hub.faults.add(Fault(method="POST", path=path, drop=drop))
    done = publish(release, repo=REPO)
    assert fault.fired == 1
    history = list(hub.store.repository(REPO).history(hub.store.repository(REPO).resolve("main")))
    assert len(history) == 2  # the repository's own first commit, and the release
    assert hub.store.tags(REPO) == {"v0.1.0": done.commit}
    published(hub, tmp_path / "main")


def test_a_lost_answer_and_a_dead_client_make_no_second_commit(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "RETRY_SECONDS", ())
    hub.faults.add(Fault(method="POST", path=r".*/commit/main", drop="after"))
    with pytest.raises(UnavailableError):
        publish(release, repo=REPO)
    head = hub.store.head(REPO)
    done = publish(release, repo=REPO)
    assert (done.outcome, done.commit) == ("completed", head)


def test_a_truncated_download_is_not_taken_for_a_difference(hub: HubServer, release: Path) -> None:
    fault = hub.faults.add(
        Fault(method="GET", path=r"/org/relevance/resolve/.*/adapter_model.safetensors", truncate=100)
    )
    assert publish(release, repo=REPO).verified
    assert fault.fired == 1


def test_a_file_that_cannot_be_read_back_is_no_success(hub: HubServer, release: Path) -> None:
    lost = Fault(
        method="*", path=r"/org/relevance/resolve/.*/zoo.yaml", status=404, code="EntryNotFound", times=None
    )
    hub.faults.add(lost)
    with pytest.raises(VerdictError) as wrong:
        publish(release, repo=REPO)
    assert wrong.value.code == "ZH004"


def test_a_file_that_changed_on_the_way_is_found(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo import hub as client

    real = client.download

    def tampered(repo: str, revision: str, into: Path, *, below: str = "") -> Path:
        folder = real(repo, revision, into, below=below)
        weights = folder / "adapter_model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.unlink()
        weights.write_bytes(content)
        return folder

    monkeypatch.setattr(client, "download", tampered)
    with pytest.raises(VerdictError, match=r"adapter_model\.safetensors") as wrong:
        publish(release, repo=REPO)
    assert wrong.value.code == "ZH004"


def test_a_rejected_card_stops_before_anything_is_made(hub: HubServer, tmp_path: Path) -> None:
    folder = write_release(tmp_path / "odd", license="my-own-licence")
    with pytest.raises(RefusedError, match="license") as refused:
        publish(folder, repo=REPO)
    assert refused.value.code == "ZH005"
    assert hub.requests.writes() == []


def test_without_a_token_it_says_how_to_log_in(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(HubError) as stopped:
        publish(release, repo=REPO)
    assert stopped.value.code == "ZH007"
    assert "hf auth login" in stopped.value.hint


def test_a_wrong_token_is_named_nowhere(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = "hf_abcdefghijklmnopqrstuvwxyz0123"
    hub.store.create(REPO)
    hub.faults.add(
        Fault(method="POST", path=r".*/commit/main", status=401, message=f"Invalid token {token}", times=None)
    )
    with pytest.raises(HubError) as stopped:
        publish(release, repo=REPO)
    chain = [stopped.value, stopped.value.__cause__, stopped.value.__context__]
    assert stopped.value.__cause__ is None
    assert stopped.value.__suppress_context__
    assert token not in str(chain[0]) + caplog.text
    assert "(secret)" in str(stopped.value)


def test_two_publishers_of_one_version(hub: HubServer, release: Path, tmp_path: Path) -> None:
    """Between this one's commit and its tag, somebody tags another commit with the same version."""

    def theirs(store: Any) -> None:
        store.repository(REPO).create_ref("refs/tags/v0.1.0", store.repository(REPO).resolve("main"))

    hub.store.create(REPO)
    hub.faults.add(Fault(method="POST", path=r".*/commit/main", meanwhile=theirs))
    with pytest.raises(RefusedError) as refused:
        publish(release, repo=REPO)
    assert refused.value.code == "ZH002"


# ---------------------------------------------------------------- twice, late, no room


@pytest.mark.parametrize("twice", ["first answer", "second answer"])
@pytest.mark.parametrize("path", [r"/api/repos/create", r".*/commit/main", r".*/tag/.*"])
def test_a_request_that_came_through_twice_is_one(
    hub: HubServer, release: Path, twice: Any, path: str, tmp_path: Path
) -> None:
    """The second commit is refused with 412: its parent is no longer the head, by the first one's doing."""
    fault = hub.faults.add(Fault(method="POST", path=path, twice=twice))
    done = publish(release, repo=REPO)
    assert fault.fired == 1
    assert done.outcome == "published"
    history = hub.store.repository(REPO).history(hub.store.repository(REPO).resolve("main"))
    assert len(list(history)) == 2  # the repository's own first commit, and the release
    assert hub.store.tags(REPO) == {"v0.1.0": hub.store.head(REPO)}
    published(hub, tmp_path / "main")


def test_an_answer_that_never_comes_is_not_waited_for_for_ever(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]

    from zoo.hub import client

    monkeypatch.setattr(client, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(get_session(), "timeout", httpx.Timeout(None))  # as a new process has it
    slow = hub.faults.add(Fault(method="POST", path=r".*/commit/main", delay=2.0))
    done = publish(release, repo=REPO)
    slow.ended.wait(10)
    assert slow.fired == 1
    assert done.outcome in ("published", "completed")
    assert commits(hub) == 1  # the Hub acted on the first one after all, or on the second
    assert hub.store.tags(REPO) == {"v0.1.0": hub.store.head(REPO)}


def test_a_time_limit_that_somebody_has_set_stays(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import get_session

    from zoo.hub.client import open_api

    monkeypatch.setattr(get_session(), "timeout", 7.0)
    open_api()
    assert get_session().timeout.read == 7.0


@pytest.mark.parametrize(
    ("status", "message"),
    [(402, "Payment required"), (413, "Too large"), (507, "x"), (403, "Private repository storage limit")],
)
@pytest.mark.parametrize("path", [r".*/commit/main", r".*\.git/info/lfs/objects/batch"])
def test_no_room_is_said_and_nothing_is_there(
    hub: HubServer, release: Path, status: int, message: str, path: str
) -> None:
    hub.faults.add(Fault(method="POST", path=path, status=status, message=message, times=None))
    with pytest.raises(HubError) as stopped:
        publish(release, repo=REPO)
    assert (stopped.value.code, stopped.value.exit_code) == ("ZH016", 3)
    assert set(hub.store.contents(REPO)) == {".gitattributes"}
    hub.faults.clear()
    assert publish(release, repo=REPO).outcome == "published"


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", r"/api/models/org/relevance", "nothing was written"),
        ("POST", r"/api/validate-yaml", "nothing was written"),
        ("POST", r"/api/repos/create", "holds nothing of the release"),
        ("POST", r".*/commit/main", "may have arrived"),
        ("POST", r".*/tag/.*", "no tag may name it yet"),
        ("GET", r"/org/relevance/resolve/.*/bom.cdx.json", "not compared to the end"),
    ],
)
def test_what_ends_it_says_what_holds_by_then(
    hub: HubServer, release: Path, method: str, path: str, said: str
) -> None:
    hub.faults.add(Fault(method=method, path=path, status=503, times=None))
    with pytest.raises(UnavailableError, match=said):
        publish(release, repo=REPO)
