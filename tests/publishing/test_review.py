"""Publishing through a pull request gated, commented on, merged, tagged; or left open."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, published
from tests.releases import failed, report_on, skipped, write_release
from zoo import hub as client
from zoo.errors import RefusedError, UndecidedError, UsageError, VerdictError, ZooError
from zoo.publishing import repository, review
from zoo.release import publish

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

Gate = Callable[..., list[Path]]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Makes the gate end with the given outcomes; returns the folders that it looked at."""

    def use(*arguments: Any) -> list[Path]:
        seen: list[Path] = []

        def validate(path: Path, **_: Any) -> Any:
            seen.append(path)
            return report_on(path, *arguments)

        monkeypatch.setattr(review, "validate", validate)
        return seen

    return use


def pull_requests(hub: HubServer) -> list[tuple[int, str]]:
    return [(one.num, one.status) for one in hub.store.repository(REPO).discussions]


def comments(hub: HubServer, number: int) -> list[str]:
    events = hub.store.repository(REPO).discussion(str(number)).events
    return [one["data"]["latest"]["raw"] for one in events if one["type"] == "comment"]


def test_what_passes_the_gate_is_merged_and_the_merge_commit_tagged(
    hub: HubServer, release: Path, gate: Gate, tmp_path: Path
) -> None:
    seen = gate()
    done = publish(release, repo=REPO, reviewed=True)
    assert done.outcome == "published"
    assert pull_requests(hub) == [(1, "merged")]
    merge_commit = hub.store.repository(REPO).discussion("1").merge_commit
    assert hub.store.tags(REPO) == {"v0.1.0": merge_commit}
    assert done.commit == merge_commit == hub.store.head(REPO)
    published(hub, tmp_path / "main")  # one whole release
    assert "passed" in comments(hub, 1)[-1]
    # the gate looked at a download, not at what was sent
    assert [path.parent.name for path in seen] == ["snapshots"]
    assert publish(release, repo=REPO, reviewed=True).outcome == "unchanged"
    assert len(pull_requests(hub)) == 1


@pytest.mark.parametrize(("outcome", "error"), [(failed, RefusedError), (skipped, UndecidedError)])
def test_what_the_gate_stops_stays_open_with_its_report(
    hub: HubServer, release: Path, gate: Gate, outcome: Any, error: type[Exception]
) -> None:
    gate(outcome("ZB001"))
    with pytest.raises(error) as stopped:
        publish(release, repo=REPO, reviewed=True)
    assert stopped.value.code == "ZH012"  # type: ignore[attr-defined]
    assert pull_requests(hub) == [(1, "open")]
    assert "ZB001" in comments(hub, 1)[-1]
    assert hub.store.tags(REPO) == {}
    assert set(hub.store.contents(REPO)) <= {".gitattributes"}  # main is as it was
    gate()  # mended, or decided: the same pull request is gone on with
    assert publish(release, repo=REPO, reviewed=True).outcome == "published"
    assert pull_requests(hub) == [(1, "merged")]


@pytest.mark.parametrize(
    "path", [r".*/commit/main.*", r".*/discussions/1/comment", r".*/discussions/1/merge", r".*/tag/.*"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_outage_at_any_step_is_taken_up_again_without_a_second_pull_request(
    hub: HubServer, release: Path, gate: Gate, tmp_path: Path, path: str, when: Any
) -> None:
    gate()
    hub.faults.add(Fault(method="POST", path=path, drop=when, times=1))
    done = publish(release, repo=REPO, reviewed=True)
    assert done.tag == "v0.1.0"
    assert pull_requests(hub) == [(1, "merged")]
    assert hub.store.tags(REPO) == {"v0.1.0": hub.store.head(REPO)}
    published(hub, tmp_path / "main")


def _known(hub: HubServer) -> bool:
    return REPO in [one.id for one in hub.store.repositories()]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_ended_at_any_request_it_is_whole_or_not_there_and_the_next_run_completes_it(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, when: Any
) -> None:
    """Without retries a lost request ends the run where a killed one would end."""
    hub: HubServer = request.getfixturevalue("hub")
    monkeypatch.setattr(repository, "RETRY_SECONDS", ())
    gate()
    ended, number = 0, int(when == "after")
    while True:
        if _known(hub):
            hub.store.delete(REPO)
        release = write_release(tmp_path / f"{when}-{number}")
        hub.faults.clear()
        fault = hub.faults.add(Fault(path=r"/.*", drop=when, skip=number, times=1))
        try:
            publish(release, repo=REPO, reviewed=True)
        except ZooError:
            ended += 1
        if not fault.fired:
            break
        tags = hub.store.tags(REPO) if _known(hub) else {}
        assert not tags or tags == {"v0.1.0": hub.store.head(REPO)}, number
        if tags:
            published(hub, tmp_path / f"{when}-first-{number}")
        hub.faults.clear()
        done = publish(release, repo=REPO, reviewed=True)
        assert hub.store.tags(REPO) == {"v0.1.0": done.commit}, number
        assert [status for _, status in pull_requests(hub)] == ["merged"], number
        published(hub, tmp_path / f"{when}-then-{number}")
        number += 2  # all of them: both kinds, from 0 and from 1; that takes minutes, and came out the same
    assert ended > 3


def test_another_content_of_the_same_version_is_not_replaced(
    hub: HubServer, release: Path, gate: Gate, tmp_path: Path
) -> None:
    gate(failed("ZB001"))
    with pytest.raises(RefusedError):
        publish(release, repo=REPO, reviewed=True)
    other = write_release(tmp_path / "other", description="Something else.")
    gate()
    with pytest.raises(RefusedError, match="other content") as refused:
        publish(other, repo=REPO, reviewed=True)
    assert refused.value.code == "ZH012"
    assert pull_requests(hub) == [(1, "open")]


def test_a_conflict_with_main_is_said_and_nothing_is_tagged(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(path: Path, **_: Any) -> Any:
        hub.store.commit(REPO, {"zoo.yaml": b"name: somebody-elses\n"})  # while the gate runs
        return report_on(path)

    monkeypatch.setattr(review, "validate", validate)
    with pytest.raises(RefusedError) as refused:
        publish(release, repo=REPO, reviewed=True)
    assert refused.value.code == "ZH003"
    assert pull_requests(hub) == [(1, "open")]
    assert hub.store.tags(REPO) == {}
    assert client.read_remote(REPO).files.keys() - {".gitattributes"} == {"zoo.yaml"}


def test_a_closed_pull_request_is_not_merged(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(path: Path, **_: Any) -> Any:
        hub.store.repository(REPO).discussion("1").status = "closed"
        return report_on(path)

    monkeypatch.setattr(review, "validate", validate)
    with pytest.raises(RefusedError) as refused:
        publish(release, repo=REPO, reviewed=True)
    assert refused.value.code == "ZH012"


def test_a_strangers_pull_request_of_the_same_title_is_left_alone(
    hub: HubServer, release: Path, gate: Gate, tmp_path: Path
) -> None:
    """It may hold the very release but for what its evidence and its example say."""
    gate(failed("ZB001"))
    with pytest.raises(RefusedError):
        publish(release, repo=REPO, reviewed=True)
    hub.store.repository(REPO).discussion("1").author = "stranger"
    gate()
    assert publish(release, repo=REPO, reviewed=True).outcome == "published"
    assert pull_requests(hub) == [(1, "open"), (2, "merged")]


def test_what_is_pushed_while_the_gate_looks_is_not_merged(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(path: Path, **_: Any) -> Any:
        hub.store.commit(REPO, {"more.bin": b"x"}, revision="refs/pr/1")
        return report_on(path)

    monkeypatch.setattr(review, "validate", validate)
    with pytest.raises(RefusedError, match="while the gate") as refused:
        publish(release, repo=REPO, reviewed=True)
    assert refused.value.code == "ZH012"
    assert pull_requests(hub) == [(1, "open")]
    assert hub.store.tags(REPO) == {}


def test_a_merge_that_holds_more_than_the_release_gets_no_tag(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def validate(path: Path, **_: Any) -> Any:
        if not hub.store.tags(REPO) and "more.bin" not in hub.store.contents(REPO):
            hub.store.commit(REPO, {"more.bin": b"x"})  # to main, and in nobody's way
        return report_on(path)

    monkeypatch.setattr(review, "validate", validate)
    with pytest.raises(VerdictError, match=r"more\.bin") as refused:
        publish(release, repo=REPO, reviewed=True)
    assert refused.value.code == "ZH004"
    assert hub.store.tags(REPO) == {}
    assert (
        publish(release, repo=REPO, reviewed=True).outcome == "published"
    )  # what is left: without that file
    published(hub, tmp_path / "main")


def test_a_folder_has_no_pull_requests(release: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        publish(release, to=tmp_path / "out", reviewed=True)
