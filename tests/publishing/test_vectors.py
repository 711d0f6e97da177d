"""Publishing writes the vectors, keeps those that came with the release, and takes over published ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import build_tiny_base
from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, commits, published, snapshot
from tests.real_release import real_release
from tests.validators.conformance.shipping import rewritten
from zoo.adapter import VECTORS_NAME, AdapterRepo
from zoo.errors import RefusedError, UndecidedError
from zoo.models import BaseModel, resolve
from zoo.provenance import folder_digest, payload_digests
from zoo.publishing import stage
from zoo.release import publish
from zoo.validators.conformance.shipped_file import read

# huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return resolve(str(build_tiny_base(tmp_path_factory.mktemp("vectors") / "tiny")))


@pytest.fixture
def release(base: BaseModel, tmp_path: Path) -> Path:
    return real_release(base, tmp_path / "release")


@pytest.fixture
def elsewhere(base: BaseModel, release: Path, tmp_path: Path) -> Callable[[float], Path]:
    """The same release with its vectors in it, measured on another machine: all off by so much."""

    def make(off: float) -> Path:
        folder = tmp_path / f"measured-elsewhere-{off}"
        publish(release, to=folder, base=str(base.folder))
        (folder / "README.md").unlink()

        def shifted(arrays: dict[str, Any]) -> None:
            arrays["expected.rule"] = (arrays["expected.rule"] + off).astype(np.float32)

        rewritten(folder, shifted)
        path = folder / "zoo.lock.json"
        lock = json.loads(path.read_text()) | {"files": payload_digests(folder), "evidence": None}
        path.write_text(json.dumps(lock))
        return folder

    return make


def test_they_are_written_on_the_way_and_the_source_is_only_read(
    release: Path, base: BaseModel, tmp_path: Path
) -> None:
    before = snapshot(release)
    publish(release, to=tmp_path / "out", base=str(base.folder))
    assert snapshot(release) == before
    lock = AdapterRepo.open(tmp_path / "out").lock
    assert lock is not None
    assert lock.files == payload_digests(tmp_path / "out")
    assert read(tmp_path / "out" / VECTORS_NAME).record.base == base.lock()
    assert "## Check an engine" in (tmp_path / "out" / "README.md").read_text()
    assert publish(release, to=tmp_path / "out", base=str(base.folder)).outcome == "unchanged"


def test_those_that_came_with_it_stay(
    elsewhere: Callable[[float], Path], base: BaseModel, tmp_path: Path
) -> None:
    source = elsewhere(1e-6)
    publish(source, to=tmp_path / "out", base=str(base.folder))
    assert (tmp_path / "out" / VECTORS_NAME).read_bytes() == (source / VECTORS_NAME).read_bytes()


def test_numbers_measured_anew_do_not_make_another_release(
    release: Path, elsewhere: Callable[[float], Path], base: BaseModel, tmp_path: Path
) -> None:
    publish(release, to=tmp_path / "out", base=str(base.folder))
    before = snapshot(tmp_path / "out")
    assert publish(elsewhere(1e-6), to=tmp_path / "out", base=str(base.folder)).outcome == "unchanged"
    assert snapshot(tmp_path / "out") == before


def test_on_the_hub_neither(
    hub: HubServer, release: Path, elsewhere: Callable[[float], Path], base: BaseModel, tmp_path: Path
) -> None:
    publish(elsewhere(1e-6), repo=REPO, base=str(base.folder))
    before = published(hub, tmp_path / "before", "v0.1.0")
    assert publish(release, repo=REPO, base=str(base.folder)).outcome == "unchanged"
    assert published(hub, tmp_path / "after", "v0.1.0") == before
    assert commits(hub) == 1


def test_other_numbers_for_the_same_weights_are_another_release(
    release: Path, elsewhere: Callable[[float], Path], base: BaseModel, tmp_path: Path
) -> None:
    target = elsewhere(0.01)  # somebody put them there
    good = tmp_path / "good"
    publish(release, to=good, base=str(base.folder))
    evidence = json.loads((good / "zoo.lock.json").read_text())["evidence"]
    digest = folder_digest(payload_digests(target))
    evidence["digest"] = digest
    path = target / "zoo.lock.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"evidence": evidence}))
    before = snapshot(target)
    with pytest.raises(RefusedError, match=VECTORS_NAME) as refused:
        publish(release, to=target, base=str(base.folder))
    assert refused.value.code == "ZH002"
    assert snapshot(target) == before


def test_a_release_that_passes_without_vectors_is_not_published(
    release: Path, base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "write_vectors", lambda _: "no prompt is short enough")
    with pytest.raises(UndecidedError, match="short enough"):
        publish(release, to=tmp_path / "out", base=str(base.folder))
    assert not (tmp_path / "out").exists()


def test_a_failing_release_is_refused_for_what_it_failed(
    release: Path, base: BaseModel, tmp_path: Path
) -> None:
    shutil.copyfile(release / "zoo.yaml", release / "run.sh")
    with pytest.raises(RefusedError, match="ZF001"):
        publish(release, to=tmp_path / "out", base=str(base.folder))
