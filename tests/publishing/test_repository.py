"""Publishing onto the Hub with the real client: what is written, what is refused, and what faults lead to."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, Outcomes, snapshot
from tests.releases import failed, report_on, skipped, write_release
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.errors import (
    DefectError,
    HubError,
    NotFoundError,
    RefusedError,
    UndecidedError,
    UsageError,
    VerdictError,
    ZooError,
)
from zoo.hub import UnavailableError
from zoo.provenance import payload_digests
from zoo.publishing import repository
from zoo.release import ReleasePlan, publish
from zoo.render.json import from_document
from zoo.report import Crashed, Passed
from zoo.specs.lock import Lock

COMMIT_PATH = r"/api/models/org/relevance/commit/main"

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]


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
    assert set(content) == {*before, "README.md"}
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
    assert set(plans[0].paths("add")) == {*snapshot(release), "README.md"}
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
    publish(release, repo=REPO, private=True)
    assert hub.store.repository(REPO).private
    hub.store.create("org/public")
    with pytest.raises(RefusedError) as refused:
        publish(release, repo="org/public", private=True)
    assert refused.value.code == "ZH009"
    assert hub.store.tags("org/public") == {}


@pytest.mark.parametrize("repo", ["", "name", "a/b/c", "org/na me", "../x"])
def test_a_name_that_is_none_is_said(hub: HubServer, release: Path, repo: str) -> None:
    with pytest.raises(UsageError):
        publish(release, repo=repo)
    assert len(hub.requests) == 0


def test_both_targets_are_one_too_many(hub: HubServer, release: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one target"):
        publish(release, repo=REPO, to=tmp_path / "out")


# ---------------------------------------------------------------- faults


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

    def tampered(repo: str, revision: str, into: Path) -> Path:
        folder = real(repo, revision, into)
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
