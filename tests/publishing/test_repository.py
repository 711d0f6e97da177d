"""Publishing onto the Hub with the real client: what is written, what is refused, and what faults lead to."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, Outcomes, commits, published, snapshot
from tests.releases import failed, report_on, skipped, write_release
from zoo.errors import (
    DefectError,
    HubError,
    NotFoundError,
    RefusedError,
    UndecidedError,
    UsageError,
    ZooError,
)
from zoo.release import Presentation, ReleasePlan, publish
from zoo.report import Crashed, Passed

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


def test_one_commit_then_the_tag_then_a_comparison(hub: HubServer, release: Path, tmp_path: Path) -> None:
    before = snapshot(release)
    plans: list[ReleasePlan] = []
    done = publish(release, repo=REPO, on_plan=plans.append)
    assert done.outcome == "published"
    assert commits(hub) == 1
    head = hub.store.head(REPO)
    assert hub.store.tags(REPO) == {"v0.1.0": head}
    assert (done.commit, done.tag) == (head, "v0.1.0")
    content = published(hub, tmp_path / "main")
    assert set(content) == {*before, "README.md", "bom.cdx.json"}
    for name in set(before) - {"zoo.lock.json"}:
        assert content[name] == before[name]
    assert set(done.verified) == set(content)
    assert snapshot(release) == before  # the input is only read
    assert [plan.new_repository for plan in plans] == [True]
    assert f"{head}" in "\n".join(done.lines())
    assert json.loads(json.dumps(done.document()))["commit"] == head


def test_the_commit_names_its_parent(hub: HubServer, release: Path) -> None:
    hub.store.create(REPO)
    head = hub.store.head(REPO)
    done = publish(release, repo=REPO)
    assert done.plan.parent == head
    assert hub.store.repository(REPO).resolve("main").parent == head


def test_the_evidence_has_neither_the_clock_nor_a_path(hub: HubServer, release: Path, tmp_path: Path) -> None:
    publish(release, repo=REPO)
    evidence = json.loads(published(hub, tmp_path / "main")["zoo.lock.json"])["evidence"]
    assert evidence["subject"] == "relevance"
    assert {result["seconds"] for result in evidence["results"]} == {0.0}


def test_a_dry_run_writes_nothing(hub: HubServer, release: Path) -> None:
    plans: list[ReleasePlan] = []
    done = publish(release, repo=REPO, dry_run=True, on_plan=plans.append)
    assert done.outcome == "planned"
    assert hub.requests.writes() == []
    assert [one.path for one in hub.requests if one.method not in ("GET", "HEAD")] == ["/api/validate-yaml"]
    assert plans[0].new_repository
    assert set(plans[0].paths("add")) == {*snapshot(release), "README.md", "bom.cdx.json"}
    with pytest.raises(KeyError):
        hub.store.repository(REPO)


def test_publishing_again_changes_nothing_and_verifies(hub: HubServer, release: Path) -> None:
    first = publish(release, repo=REPO)
    hub.requests.clear()
    again = publish(release, repo=REPO)
    assert again.outcome == "unchanged"
    assert again.commit == first.commit
    assert hub.requests.writes() == []
    assert again.verified


def test_numbers_measured_anew_do_not_make_another_release(
    hub: HubServer, release: Path, checked: Outcomes
) -> None:
    first = publish(release, repo=REPO)
    noisy = [("ZR001", "PEFT computes the reference", Passed(measured={"difference": 1e-7}))]
    checked(noisy)
    with pytest.raises(RefusedError) as refused:  # other checks: not the same evidence
        publish(release, repo=REPO)
    assert refused.value.code == "ZH002"
    outcomes = report_on(release).results
    checked([(r.code, r.title, Passed(measured={"x": 0.5}) if isinstance(r.outcome, Passed) else r.outcome)
             for r in outcomes], seconds=77.0)  # fmt: skip
    assert publish(release, repo=REPO).commit == first.commit


def test_a_new_version_replaces_the_files_and_keeps_the_old_tag(
    hub: HubServer, release: Path, tmp_path: Path
) -> None:
    old = publish(write_release(tmp_path / "old", files={"LICENSE": b"old"}), repo=REPO)
    new = publish(write_release(tmp_path / "new", version="0.2.0", seed=1), repo=REPO)
    assert hub.store.tags(REPO) == {"v0.1.0": old.commit, "v0.2.0": new.commit}
    assert new.plan.paths("delete") == ["LICENSE"]
    assert "LICENSE" not in published(hub, tmp_path / "main")
    assert "LICENSE" in published(hub, tmp_path / "v1", "v0.1.0")
    assert ".gitattributes" in hub.store.contents(REPO)
    assert commits(hub) == 2


def test_the_same_version_with_other_content_is_refused(
    hub: HubServer, release: Path, tmp_path: Path
) -> None:
    first = publish(release, repo=REPO)
    hub.requests.clear()
    with pytest.raises(RefusedError, match="exists at commit") as refused:
        publish(write_release(tmp_path / "other", seed=1), repo=REPO)
    assert refused.value.code == "ZH002"
    assert "version" in refused.value.hint
    assert hub.requests.writes() == []
    assert hub.store.head(REPO) == first.commit


def test_the_author_may_edit_zoo_yaml_after_conversion(hub: HubServer, release: Path, tmp_path: Path) -> None:
    publish(release, repo=REPO)
    text = (release / "zoo.yaml").read_text()
    (release / "zoo.yaml").write_text(re.sub(r"version: 0\.1\.0\n", "", text) + "version: 0.2.0\n")
    publish(release, repo=REPO)
    published(hub, tmp_path / "main")  # its lock has the digest of the new zoo.yaml
    assert set(hub.store.tags(REPO)) == {"v0.1.0", "v0.2.0"}


def test_an_untagged_release_is_completed_without_a_second_commit(hub: HubServer, release: Path) -> None:
    tagging = hub.faults.add(Fault(method="POST", path=r".*/tag/.*", status=403))
    with pytest.raises(HubError):
        publish(release, repo=REPO)
    assert tagging.fired == 1
    assert hub.store.tags(REPO) == {}
    done = publish(release, repo=REPO)
    assert done.outcome == "completed"
    assert commits(hub) == 1
    assert hub.store.tags(REPO) == {"v0.1.0": hub.store.head(REPO)}


def test_a_card_edited_on_the_hub_stays_and_is_no_error(hub: HubServer, release: Path) -> None:
    first = publish(release, repo=REPO)
    edited = hub.store.commit(REPO, {"README.md": b"---\nlicense: mit\n---\nMine"})
    again = publish(release, repo=REPO)
    assert again.outcome == "unchanged"
    assert again.commit == first.commit
    assert hub.store.head(REPO) == edited


# ---------------------------------------------------------------- what is not published


@pytest.mark.parametrize(
    ("outcomes", "error", "exit_code"),
    [
        (failed("ZR001"), RefusedError, 1),
        (skipped("ZR001"), UndecidedError, 3),
        ([], UndecidedError, 3),
        ([("ZR001", "t", Crashed(error="KeyError"))], DefectError, 4),
    ],
)
def test_what_did_not_pass_is_refused(
    hub: HubServer, release: Path, checked: Outcomes, outcomes: Any, error: type[ZooError], exit_code: int
) -> None:
    checked(outcomes)
    with pytest.raises(error) as refused:
        publish(release, repo=REPO)
    assert refused.value.code == "ZH001"
    assert refused.value.exit_code == exit_code
    assert "ZR001" in str(refused.value) or not outcomes
    assert hub.requests.writes() == []


def test_an_allowed_skip_is_published(hub: HubServer, release: Path, checked: Outcomes) -> None:
    from zoo.specs.release import GatePolicy

    checked(skipped("ZR001"), allowed=GatePolicy(allowed_skips={"ZR001": "no GPU"}))
    assert publish(release, repo=REPO).outcome == "published"


@pytest.mark.parametrize("name", ["zoo.yaml", "zoo.lock.json"])
def test_what_is_no_release_is_refused(hub: HubServer, release: Path, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(NotFoundError, match=re.escape(name)):
        publish(release, repo=REPO)


def test_a_link_is_refused(hub: HubServer, release: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (release / "NOTES.md").symlink_to(tmp_path / "secret")
    with pytest.raises(RefusedError) as refused:
        publish(release, repo=REPO)
    assert refused.value.code == "ZH011"


def test_a_repository_of_something_else_is_not_emptied(hub: HubServer, release: Path) -> None:
    hub.store.create(REPO)
    hub.store.commit(REPO, {"model.safetensors": b"somebody's model"})
    head = hub.store.head(REPO)
    with pytest.raises(RefusedError, match=r"model\.safetensors") as refused:
        publish(release, repo=REPO)
    assert refused.value.code == "ZH010"
    assert hub.store.head(REPO) == head


def test_private_is_made_private_and_public_is_not_taken_for_it(hub: HubServer, release: Path) -> None:
    publish(release, repo=REPO, presentation=Presentation(private=True))
    assert hub.store.repository(REPO).private
    hub.store.create("org/public")
    with pytest.raises(RefusedError) as refused:
        publish(release, repo="org/public", presentation=Presentation(private=True))
    assert refused.value.code == "ZH009"
    assert hub.store.tags("org/public") == {}


@pytest.mark.parametrize("repo", ["", "name", "a/b@v1", "a//c", "org/na me", "../x"])
def test_a_name_that_is_none_is_said(hub: HubServer, release: Path, repo: str) -> None:
    with pytest.raises(UsageError):
        publish(release, repo=repo)
    assert len(hub.requests) == 0


def test_both_targets_are_one_too_many(hub: HubServer, release: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one target"):
        publish(release, repo=REPO, to=tmp_path / "out")
