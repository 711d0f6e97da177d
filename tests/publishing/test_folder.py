"""Publishing into a local folder: the old release or the new one, and nobody else's files lost."""

from pathlib import Path
from typing import Any

import pytest

from tests.publishing.conftest import Outcomes, snapshot
from tests.releases import failed, report_on, write_release
from zoo.adapter import AdapterRepo
from zoo.cards.card import recorded_report, render_card
from zoo.errors import RefusedError, UsageError
from zoo.provenance import payload_digests
from zoo.release import publish
from zoo.report import Passed

pytestmark = pytest.mark.usefixtures("checked")


def whole(target: Path) -> dict[str, bytes]:
    """The folder's content, checked for being one whole release."""
    repo = AdapterRepo.open(target)
    assert repo.lock is not None
    assert repo.lock.files == payload_digests(target)
    assert (target / "README.md").read_text() == render_card(repo, recorded_report(repo))
    return snapshot(target)


def test_a_new_folder_becomes_the_release(release: Path, tmp_path: Path) -> None:
    before = snapshot(release)
    target = tmp_path / "deep" / "out"
    done = publish(release, to=target)
    assert done.outcome == "published"
    assert set(whole(target)) == {*before, "README.md", "bom.cdx.json"} == set(done.verified)
    assert snapshot(release) == before
    assert [path.name for path in target.parent.iterdir()] == ["out"]
    assert "tag" not in "\n".join(done.plan.lines())


def test_a_dry_run_writes_nothing(release: Path, tmp_path: Path) -> None:
    done = publish(release, to=tmp_path / "out", dry_run=True)
    assert done.outcome == "planned"
    assert set(done.plan.paths("add")) == {*snapshot(release), "README.md", "bom.cdx.json"}
    assert not (tmp_path / "out").exists()


def test_again_is_unchanged_and_noise_does_not_matter(
    release: Path, tmp_path: Path, checked: Outcomes
) -> None:
    publish(release, to=tmp_path / "out")
    before = whole(tmp_path / "out")
    outcomes: list[Any] = [
        (r.code, r.title, Passed(measured={"x": 0.5}) if isinstance(r.outcome, Passed) else r.outcome)
        for r in report_on(release).results
    ]
    checked(outcomes)
    assert publish(release, to=tmp_path / "out").outcome == "unchanged"
    assert snapshot(tmp_path / "out") == before


def test_a_new_version_replaces_the_whole_folder(release: Path, tmp_path: Path) -> None:
    publish(write_release(tmp_path / "old", files={"LICENSE": b"old"}), to=tmp_path / "out")
    new = write_release(tmp_path / "new", version="0.2.0", seed=1)
    done = publish(new, to=tmp_path / "out")
    assert done.plan.paths("delete") == ["LICENSE"]
    assert "LICENSE" not in whole(tmp_path / "out")
    assert whole(tmp_path / "out")["zoo.yaml"] == (new / "zoo.yaml").read_bytes()


def test_the_same_version_with_other_content_is_refused(release: Path, tmp_path: Path) -> None:
    publish(release, to=tmp_path / "out")
    before = snapshot(tmp_path / "out")
    with pytest.raises(RefusedError) as refused:
        publish(write_release(tmp_path / "other", seed=1), to=tmp_path / "out")
    assert refused.value.code == "ZH002"
    assert snapshot(tmp_path / "out") == before


@pytest.mark.parametrize("stranger", ["thesis.docx", ".git/HEAD"])
def test_a_folder_with_anything_else_in_it_is_refused(release: Path, tmp_path: Path, stranger: str) -> None:
    target = tmp_path / "out"
    publish(release, to=target)
    (target / stranger).parent.mkdir(exist_ok=True)
    (target / stranger).write_text("mine")
    new = write_release(tmp_path / "new", version="0.2.0")
    with pytest.raises(RefusedError, match=stranger) as refused:
        publish(new, to=target)
    assert refused.value.code == "ZH010"
    assert (target / stranger).read_text() == "mine"


def test_a_folder_that_is_no_release_is_refused(release: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "zoo.lock.json").write_text("{}")
    with pytest.raises(RefusedError):
        publish(release, to=tmp_path / "out")


def test_an_empty_folder_is_fine_and_a_file_is_not(release: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert publish(release, to=tmp_path / "empty").outcome == "published"
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError):
        publish(release, to=tmp_path / "file")


def test_the_release_itself_is_no_target(release: Path, tmp_path: Path) -> None:
    for target in (release, release / "inside", release.parent):
        with pytest.raises(UsageError, match="overlap"):
            publish(release, to=target)


def test_what_did_not_pass_leaves_the_old_release(release: Path, tmp_path: Path, checked: Outcomes) -> None:
    publish(release, to=tmp_path / "out")
    before = snapshot(tmp_path / "out")
    checked(failed("ZR001"))
    with pytest.raises(RefusedError):
        publish(write_release(tmp_path / "new", version="0.2.0"), to=tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_a_failure_while_writing_leaves_the_old_release(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(release, to=tmp_path / "out")
    before = snapshot(tmp_path / "out")

    def full(source: Path, target: Path, **_: Any) -> None:
        (target / "adapter_config.json").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zoo.publishing.folder.shutil.copytree", full)
    with pytest.raises(OSError, match="No space"):
        publish(write_release(tmp_path / "new", version="0.2.0"), to=tmp_path / "out")
    assert snapshot(tmp_path / "out") == before
    assert not list(tmp_path.glob(".out*"))
