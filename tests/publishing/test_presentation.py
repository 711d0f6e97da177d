"""Access, collections and successors of a published release, with the real client."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.hub.wire import Account
from tests.publishing.conftest import REPO
from tests.releases import write_release
from zoo.errors import HubError, NotFoundError, RefusedError, UsageError
from zoo.publishing import repository
from zoo.publishing.succession import successor_of, with_successor
from zoo.release import Presentation, ReleasePlan, publish
from zoo.verification import verify

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
OLD = "org/relevance-old"
SHELF = "org/Adapters of tiny-llama"


def items(hub: HubServer) -> dict[str, list[tuple[str, str]]]:
    return {
        one["title"]: [(item["id"], item.get("note", {}).get("text", "")) for item in one["items"]]
        for one in hub.store.collections.values()
    }


def metadata(hub: HubServer, repo: str) -> Any:
    return yaml.safe_load(hub.store.contents(repo)["README.md"].decode().split("---\n")[1])


# ---------------------------------------------------------------- collections


def test_a_collection_is_made_once_and_holds_each_repository_once(
    hub: HubServer, release: Path, tmp_path: Path
) -> None:
    done = publish(release, repo=REPO, presentation=Presentation(collection=SHELF))
    note = "Says whether a passage helps to answer a question."
    assert items(hub) == {"Adapters of tiny-llama": [(REPO, note)]}
    slug = next(iter(hub.store.collections))
    assert done.also == (f"collection {hub.url}/collections/{slug}",)
    assert publish(release, repo=REPO, presentation=Presentation(collection=SHELF)).outcome == "unchanged"
    other = write_release(tmp_path / "other", name="certainty", description="")
    publish(other, repo="org/certainty", presentation=Presentation(collection=slug))  # by its address
    assert items(hub) == {"Adapters of tiny-llama": [(REPO, note), ("org/certainty", "")]}


@pytest.mark.parametrize("path", [r"/api/collections", r"/api/collections/.*/items"])
@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_lost_answer_makes_no_second_collection_and_no_second_item(
    hub: HubServer, release: Path, path: str, drop: Any
) -> None:
    fault = hub.faults.add(Fault(method="POST", path=path, drop=drop))
    publish(release, repo=REPO, presentation=Presentation(collection=SHELF))
    assert fault.fired == 1
    assert [len(one) for one in items(hub).values()] == [1]


def test_a_collection_that_may_not_be_changed_leaves_the_release_published_and_says_so(
    hub: HubServer, release: Path
) -> None:
    hub.faults.add(Fault(method="POST", path=r"/api/collections", status=403))
    with pytest.raises(HubError, match=r"v0\.1\.0 is published and verified") as stopped:
        publish(release, repo=REPO, presentation=Presentation(collection=SHELF))
    assert (stopped.value.code, stopped.value.exit_code) == ("ZH007", 3)
    assert publish(release, repo=REPO, presentation=Presentation(collection=SHELF)).also


def test_an_address_of_no_collection_is_not_found(hub: HubServer, release: Path) -> None:
    gone = f"org/gone-{'0' * 24}"
    with pytest.raises(NotFoundError):
        publish(release, repo=REPO, presentation=Presentation(collection=gone))


# ---------------------------------------------------------------- successors


def test_the_superseded_repository_names_its_successor_and_nothing_else_changes(
    hub: HubServer, release: Path
) -> None:
    old = publish(release, repo=OLD)
    before = hub.store.contents(OLD)
    done = publish(release, repo=REPO, presentation=Presentation(supersedes=OLD))
    assert done.also == (f"supersedes {hub.url}/{OLD}",)
    after = hub.store.contents(OLD)
    assert {name for name in after if after[name] != before[name]} == {"README.md"}
    lines = after["README.md"].decode().splitlines()
    assert f"new_version: {REPO}" in lines
    assert [one for one in lines if one != f"new_version: {REPO}"] == before[
        "README.md"
    ].decode().splitlines()
    assert metadata(hub, OLD)["new_version"] == REPO
    assert hub.store.tags(OLD) == {"v0.1.0": old.commit}  # what is pinned stays
    assert verify(f"{OLD}@v0.1.0").exit_code == 0
    head = hub.store.head(OLD)
    publish(release, repo=REPO, presentation=Presentation(supersedes=OLD))
    assert hub.store.head(OLD) == head


def test_one_that_names_another_successor_is_refused_before_anything_is_written(
    hub: HubServer, release: Path
) -> None:
    hub.store.create(OLD)
    hub.store.commit(OLD, {"README.md": b"---\nlicense: mit\nnew_version: org/third\n---\n"})
    hub.requests.clear()
    with pytest.raises(RefusedError, match="org/third") as refused:
        publish(release, repo=REPO, presentation=Presentation(supersedes=OLD))
    assert refused.value.code == "ZH015"
    assert hub.requests.writes() == []


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_link_whose_answer_was_lost_is_made_once(hub: HubServer, release: Path, drop: Any) -> None:
    publish(release, repo=OLD)
    fault = hub.faults.add(Fault(method="POST", path=r"/api/models/org/relevance-old/commit/main", drop=drop))
    publish(release, repo=REPO, presentation=Presentation(supersedes=OLD))
    assert fault.fired == 1
    store = hub.store.repository(OLD)
    titles = [one.title for one in store.history(store.resolve("main"))]
    assert titles.count(f"Superseded by {REPO}") == 1


@pytest.mark.parametrize("old", ["org/none", REPO, f"{REPO}/folder", "name"])
def test_what_cannot_be_superseded_is_said_first(hub: HubServer, release: Path, old: str) -> None:
    with pytest.raises(UsageError):
        publish(release, repo=REPO, presentation=Presentation(supersedes=old))
    assert hub.requests.writes() == []


@pytest.mark.parametrize(
    "card", ["", "# no metadata\n", "---\nlicense: mit\n---\n# x\n", "---\n---\n", "---\nx"]
)
def test_a_link_keeps_every_line_of_the_card(card: str) -> None:
    linked = with_successor(card, REPO)
    assert successor_of(linked, OLD) == REPO
    assert successor_of(card, OLD) == ""
    left = iter(linked.splitlines())
    assert all(line in left for line in card.splitlines())  # in order


def test_a_link_takes_the_place_of_an_empty_one() -> None:
    linked = with_successor("---\nnew_version:\nlicense: mit\n---\n# x\n", REPO)
    assert linked == f"---\nlicense: mit\nnew_version: {REPO}\n---\n# x\n"


# ---------------------------------------------------------------- access


def test_a_gated_repository_is_gated_before_anything_is_in_it(hub: HubServer, release: Path) -> None:
    plans: list[ReleasePlan] = []
    publish(release, repo=REPO, presentation=Presentation(gated="manual"), on_plan=plans.append)
    writes = [f"{one.method} {one.path}" for one in hub.requests.writes()]
    assert writes.index(f"PUT /api/models/{REPO}/settings") < min(
        number for number, one in enumerate(writes) if "commit/main" in one
    )
    assert hub.store.repository(REPO).gated == "manual"
    assert "  access     gated (manual)" in plans[0].lines()
    publish(release, repo=REPO, presentation=Presentation(gated="auto"))
    assert hub.store.repository(REPO).gated == "auto"
    publish(release, repo=REPO)
    assert hub.store.repository(REPO).gated == "auto"  # left as it is where nothing is said


def test_ended_between_making_and_gating_the_next_run_gates_it(
    hub: HubServer, release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "RETRY_SECONDS", ())
    hub.faults.add(Fault(method="PUT", path=r".*/settings", drop="before"))
    with pytest.raises(HubError, match="holds nothing of the release"):
        publish(release, repo=REPO, presentation=Presentation(gated="auto"))
    assert set(hub.store.contents(REPO)) == {".gitattributes"}
    assert publish(release, repo=REPO, presentation=Presentation(gated="auto")).outcome == "published"
    assert hub.store.repository(REPO).gated == "auto"


@pytest.mark.parametrize("presentation", [Presentation(gated="manual"), Presentation(private=True)])
def test_a_stranger_does_not_get_at_it_and_is_told_how(
    hub: HubServer, release: Path, presentation: Presentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(release, repo=REPO, presentation=presentation)
    assert verify(f"{REPO}@v0.1.0").exit_code == 0
    stranger = "hf_strangerstrangerstrangerstranger"
    hub.store.accounts[stranger] = Account(name="stranger", may_write=False)
    for token in (stranger, ""):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises((HubError, NotFoundError)) as stopped:
            verify(f"{REPO}@v0.1.0")
        assert not token or token not in str(stopped.value)
        assert "access" in str(stopped.value)


def test_a_folder_has_neither(release: Path, tmp_path: Path) -> None:
    for presentation in (
        Presentation(gated="auto"),
        Presentation(collection=SHELF),
        Presentation(supersedes=OLD),
    ):
        with pytest.raises(UsageError):
            publish(release, to=tmp_path / "out", presentation=presentation)
