"""Several adapters in one repository: each in its folder, with versions and tags of its own."""

import re
from pathlib import Path

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, snapshot
from tests.publishing.test_review import Gate, gate, pull_requests
from tests.releases import write_release
from zoo.errors import HubError, RefusedError
from zoo.hub.adapter import open_adapter
from zoo.hub.address import Address
from zoo.release import publish
from zoo.verification import verify

__all__ = ["gate"]

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
LIBRARY = "org/library"
ONE, TWO = "relevance/tiny-llama/alora", "certainty/tiny-llama/alora"
TAG = "relevance-tiny-llama-alora-v0.1.0"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_release(tmp_path / "certainty", seed=5, name="certainty")


def test_two_adapters_stand_side_by_side_each_with_its_versions(
    hub: HubServer, release: Path, other: Path, tmp_path: Path
) -> None:
    first = publish(release, repo=f"{LIBRARY}/{ONE}")
    second = publish(other, repo=f"{LIBRARY}/{TWO}")
    newer = publish(write_release(tmp_path / "newer", version="0.2.0", seed=1), repo=f"{LIBRARY}/{ONE}")
    assert hub.store.tags(LIBRARY) == {
        TAG: first.commit,
        "certainty-tiny-llama-alora-v0.1.0": second.commit,
        "relevance-tiny-llama-alora-v0.2.0": newer.commit,
    }
    content = hub.store.contents(LIBRARY)
    assert {name.rpartition("/")[0] for name in content} == {"", ONE, TWO}
    assert content[f"{TWO}/adapter_model.safetensors"] == snapshot(other)["adapter_model.safetensors"]
    assert first.where == f"{hub.url}/{LIBRARY}/tree/{TAG}/{ONE}"
    assert newer.plan.paths("delete") == []  # nothing of the neighbour's
    assert newer.plan.compared
    assert TAG in newer.plan.compared.note
    assert publish(other, repo=f"{LIBRARY}/{TWO}").outcome == "unchanged"


def test_its_card_loads_from_the_folder_at_its_tag_and_it_verifies(hub: HubServer, release: Path) -> None:
    publish(release, repo=f"{LIBRARY}/{ONE}")
    card = hub.store.contents(LIBRARY)[f"{ONE}/README.md"].decode()
    assert f'"{LIBRARY}", subfolder="{ONE}", revision="{TAG}"' in card
    report = verify(f"{LIBRARY}/{ONE}@{TAG}")
    flagged = [one.code for one in report.results if type(one.outcome).__name__ == "Flagged"]
    assert flagged == []
    assert (report.environment["tag"], report.environment["folder"]) == (TAG, ONE)
    assert verify(f"{LIBRARY}@{TAG}").environment == report.environment
    cached = open_adapter(f"{LIBRARY}/{ONE}@{TAG}").root  # in the client's cache: its name says what it is
    assert [one.code for one in verify(str(cached)).results if type(one.outcome).__name__ == "Flagged"] == []


def test_a_tag_that_names_another_version_is_an_error(hub: HubServer, release: Path) -> None:
    done = publish(release, repo=f"{LIBRARY}/{ONE}")
    wrong = "relevance-tiny-llama-alora-v0.9.0"
    hub.store.repository(LIBRARY).create_ref(
        f"refs/tags/{wrong}", hub.store.repository(LIBRARY).commits[done.commit]
    )
    report = verify(f"{LIBRARY}/{ONE}@{wrong}")
    assert [one.code for one in report.results if type(one.outcome).__name__ == "Flagged"] == ["ZA007"]
    assert report.exit_code == 1


def test_a_neighbour_who_commits_meanwhile_does_not_stop_it(
    hub: HubServer, release: Path, other: Path
) -> None:
    publish(other, repo=f"{LIBRARY}/{TWO}")
    path = r"/api/models/org/library/commit/main"
    theirs = Fault(
        method="POST", path=path, meanwhile=lambda store: store.commit(LIBRARY, {f"{TWO}/NOTES.md": b"more"})
    )
    hub.faults.add(theirs)
    done = publish(release, repo=f"{LIBRARY}/{ONE}")
    assert theirs.fired == 1
    assert hub.store.tags(LIBRARY)[TAG] == done.commit == hub.store.head(LIBRARY)
    assert hub.store.contents(LIBRARY)[f"{TWO}/NOTES.md"] == b"more"


def test_whoever_changes_this_adapter_meanwhile_does_stop_it(hub: HubServer, release: Path) -> None:
    hub.store.create(LIBRARY)
    hub.faults.add(
        Fault(
            method="POST",
            path=r"/api/models/org/library/commit/main",
            meanwhile=lambda store: store.commit(LIBRARY, {f"{ONE}/theirs.txt": b"x"}),
        )
    )
    with pytest.raises(HubError, match="nothing of this release") as stopped:
        publish(release, repo=f"{LIBRARY}/{ONE}")
    assert stopped.value.code == "ZH003"
    assert hub.store.tags(LIBRARY) == {}


@pytest.mark.parametrize(
    ("there", "here"),
    [("", ONE), ("relevance", ONE), (ONE, ""), (ONE, "relevance"), (ONE, "relevance/tiny-llama")],
)
def test_no_release_lies_inside_another(
    hub: HubServer, release: Path, other: Path, there: str, here: str
) -> None:
    first = publish(release, repo=str(Address(repo=LIBRARY, folder=there)))
    with pytest.raises(RefusedError) as refused:
        publish(other, repo=str(Address(repo=LIBRARY, folder=here)))
    assert refused.value.code == "ZH010"
    assert hub.store.head(LIBRARY) == first.commit


def test_two_adapters_of_one_name_have_a_pull_request_each(
    hub: HubServer, release: Path, gate: Gate, tmp_path: Path
) -> None:
    gate()
    publish(release, repo=f"{LIBRARY}/{ONE}", reviewed=True)
    theirs = write_release(tmp_path / "other-base", seed=7)
    publish(theirs, repo=f"{LIBRARY}/relevance/other/alora", reviewed=True)
    found = hub.store.repository(LIBRARY).discussions
    assert [(one.title, one.status) for one in found] == [
        (f"Release {ONE} 0.1.0", "merged"),
        ("Release relevance/other/alora 0.1.0", "merged"),
    ]
    assert set(hub.store.tags(LIBRARY)) == {TAG, "relevance-other-alora-v0.1.0"}
    assert REPO not in [one.id for one in hub.store.repositories()] or pull_requests(hub) == []


@pytest.mark.parametrize("wrong", ["org", "org/x@v1", "org/x/../y", "org//x", "org/x/.git", "org/a b"])
def test_what_is_no_place_is_said(wrong: str) -> None:
    from zoo.errors import UsageError

    with pytest.raises(UsageError, match=re.escape(repr(wrong))):
        Address.target(wrong)


def test_what_a_cache_holds_in_part_is_not_called_changed(hub: HubServer, tmp_path: Path) -> None:
    files = {"LICENSE": b"Apache License 2.0\n", "evaluation.png": b"\x89PNG", "CHANGELOG.md": b"# New\n"}
    whole = write_release(tmp_path / "whole", files=files)
    publish(whole, repo=REPO)
    cached = open_adapter(f"{REPO}@v0.1.0").root
    assert verify(str(cached)).exit_code == 0
    more = write_release(tmp_path / "more", files={**files, "loss.gif": b"GIF89a"})
    publish(more, repo="org/more")
    cached = open_adapter("org/more@v0.1.0").root
    report = verify(str(cached))  # the picture is of no use to whoever runs it
    kinds = {one.code: type(one.outcome).__name__ for one in report.results}
    assert kinds.pop("ZL001") == "Passed"
    assert set(kinds.values()) <= {"Skipped", "NotApplicable"}
    assert report.exit_code == 3
    assert "loss.gif" in str(report.results)
    (cached / "adapter_model.safetensors").unlink()
    assert verify(str(cached)).exit_code == 1  # this one is
    (tmp_path / "published").mkdir()
    for name, content in hub.store.contents("org/more", "v0.1.0").items():
        (tmp_path / "published" / name).write_bytes(content)
    (tmp_path / "published" / "loss.gif").unlink()
    assert verify(str(tmp_path / "published"), hub_id="org/more").exit_code == 1  # a folder is no cache
