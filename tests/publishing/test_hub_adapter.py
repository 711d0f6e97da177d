"""Adapters by name, from a folder or from a Hub, through the real client."""

import shutil
from pathlib import Path

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from zoo import hub as hub_client
from zoo.errors import HubError, NotFoundError, UsageError
from zoo.hub.adapter import ambiguity, open_adapter

REPO = "org/library"


@pytest.fixture
def library(hub: HubServer, release: Path) -> str:
    """Two adapters in one repository, the second's weights a pickle too; tagged v1.0.0."""
    hub.store.create(REPO)
    files = {path.name: path.read_bytes() for path in release.iterdir() if path.is_file()}
    both: dict[str, bytes | None] = {f"one/alora/{name}": content for name, content in files.items()}
    both |= {f"two/alora/{name}": content for name, content in files.items()}
    both["two/alora/optimizer.pt"] = b"a pickle"
    commit = hub.store.commit(REPO, both)
    hub_client.create_tag(REPO, "v1.0.0", commit)
    return commit


def test_an_adapter_of_a_library_is_opened_at_its_commit(hub: HubServer, library: str, release: Path) -> None:
    hub.store.commit(REPO, {"two/alora/zoo.yaml": b"name: other\n"})
    repo = open_adapter(f"{REPO}/two@v1.0.0")
    assert repo.commit == library
    assert repo.tensors == open_adapter(release).tensors
    assert repo.release == open_adapter(str(release)).release
    assert not (repo.root / "optimizer.pt").exists()  # only what a release has
    assert not (repo.root.parent.parent / "one" / "alora" / "adapter_model.safetensors").exists()
    # the control: the newest commit is another
    assert open_adapter(f"{REPO}/two").commit == hub.store.head(REPO) != library


def test_several_adapters_in_a_repository_are_listed(library: str) -> None:
    with pytest.raises(UsageError, match="org/library/one/alora, org/library/two/alora") as refused:
        open_adapter(REPO)
    assert "org/library/one/alora" in refused.value.hint


@pytest.mark.parametrize("source", ["org/none", f"{REPO}@v9.9.9", f"{REPO}/three", "./org/library", "/org/x"])
def test_what_is_not_there_is_not_found(library: str, source: str) -> None:
    with pytest.raises(NotFoundError):
        open_adapter(source)


def test_without_an_answer_a_cached_adapter_is_opened_and_another_is_not(
    hub: HubServer, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_adapter(f"{REPO}/one@{library}")
    hub.faults.add(Fault(drop="before", times=None))
    assert open_adapter(f"{REPO}/one@{library}").root == first.root
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError):
        open_adapter("org/never-seen")


def test_with_a_revision_it_is_the_hubs_whatever_lies_here(
    library: str, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both readings of each name are there; without a revision the folder comes first."""
    monkeypatch.chdir(tmp_path)
    for place in (f"{REPO}/one", f"{REPO}/one@v1.0.0", "org/gone@v1.0.0"):
        shutil.copytree(release, tmp_path / place)
        assert open_adapter(f"./{place}").commit == ""
        assert ambiguity(f"./{place}") == ""
    released = f"{REPO}/one@v1.0.0"
    assert open_adapter(released).commit == library
    assert (
        ambiguity(released)
        == f"{released} is taken from the Hub; ./{released} is the folder of that name here"
    )
    assert open_adapter(f"{REPO}/one").commit == ""
    assert ambiguity(f"{REPO}/one") == ambiguity(f"{REPO}/two@v1.0.0") == ""
    with pytest.raises(NotFoundError):  # not the folder in its place
        open_adapter("org/gone@v1.0.0")
