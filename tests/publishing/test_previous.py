"""A release's contract beside the one published before: what is said and refused, and what faults lead to."""

import json
from pathlib import Path

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, snapshot
from tests.releases import write_release
from zoo.contracts.comparison import Comparison
from zoo.contracts.source import open_contract
from zoo.errors import HubError, NotFoundError, RefusedError, ZooError
from zoo.hub import Remote, UnavailableError
from zoo.hub.address import Address
from zoo.publishing.previous import previous_revision
from zoo.release import publish

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
SIZES = r"/api/models/org/relevance/paths-info/.*"
LABEL = b"""\
response_format: {type: string, enum: ["relevant", "irrelevant"]}
transformations:
  - {type: nest, field_name: relevance}
"""
OTHER_KEY = LABEL.replace(b"relevance}", b"context_relevance}")
MORE = LABEL + b"parameters: {max_completion_tokens: 4}\n"


def made(tmp_path: Path, version: str, io: bytes | None, *, seed: int = 0) -> Path:
    files = {"io.yaml": io} if io is not None else {}
    return write_release(tmp_path / f"release-{version}-{seed}", version=version, files=files, seed=seed)


def said(target: Path, release: Path) -> str:
    """The contract's lines of a plan for a local folder."""
    lines = publish(release, to=target, dry_run=True).plan.lines()
    return "\n".join(lines[next(i for i, line in enumerate(lines) if "contract" in line) :])


def plant(hub: HubServer, version: str, files: dict[str, bytes | None]) -> None:
    """A tagged version that zoo would not have published."""
    commit = hub.store.commit(REPO, files)
    repository = hub.store.repository(REPO)
    repository.create_ref(f"refs/tags/v{version}", repository.resolve(commit))


def test_the_first_release_says_that_there_is_nothing_before(hub: HubServer, tmp_path: Path) -> None:
    done = publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    assert f"nothing to compare with: {REPO} holds no release" in "\n".join(done.plan.lines())
    assert done.document()["plan"]["contract"]["comparison"] is None


def test_a_breaking_change_is_refused_before_anything_is_checked_or_written(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    hub.requests.clear()
    with monkeypatch.context() as patched:
        patched.setattr("zoo.publishing.stage.validate", lambda *_, **__: pytest.fail("minutes of checks"))
        with pytest.raises(RefusedError, match="relevance removed") as refused:
            publish(made(tmp_path, "0.1.1", OTHER_KEY), repo=REPO)
    assert (refused.value.code, refused.value.exit_code) == ("ZO200", 1)
    assert "0.2.0 or higher" in refused.value.hint
    assert hub.requests.writes() == []
    done = publish(made(tmp_path, "0.2.0", OTHER_KEY), repo=REPO)
    text = "\n".join(done.plan.lines())
    assert f"compared with {REPO}@v0.1.0" in text
    assert "breaking" in text
    assert "$.relevance" in text
    assert set(hub.store.tags(REPO)) == {"v0.1.0", "v0.2.0"}


def test_what_appears_while_the_checks_run_is_compared_too(hub: HubServer, tmp_path: Path) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    release = made(tmp_path, "0.1.2", LABEL)
    readings = r"/api/models/org/relevance/refs"
    theirs = Fault(path=readings, skip=1, meanwhile=lambda _: plant(hub, "0.1.1", {"io.yaml": OTHER_KEY}))
    hub.faults.add(theirs)
    with pytest.raises(RefusedError) as refused:
        publish(release, repo=REPO)
    assert theirs.fired == 1
    assert refused.value.code == "ZO200"


def test_a_compatible_change_and_none(hub: HubServer, tmp_path: Path) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    plan = publish(made(tmp_path, "0.1.1", MORE), repo=REPO, dry_run=True).plan
    assert plan.compared is not None
    assert plan.compared.note.endswith(": compatible")
    document = json.loads(json.dumps(plan.document()))["contract"]["comparison"]
    assert (document["format"], document["verdict"], document["refused"]) == (1, "compatible", None)
    same = publish(made(tmp_path, "0.1.1", LABEL, seed=1), repo=REPO, dry_run=True).plan
    assert same.compared is not None
    assert same.compared.note.endswith(": identical")


def test_a_published_version_is_verified_without_a_comparison(hub: HubServer, tmp_path: Path) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    publish(made(tmp_path, "0.2.0", OTHER_KEY), repo=REPO)
    hub.requests.clear()
    again = publish(tmp_path / "release-0.1.0-0", repo=REPO)
    assert again.outcome == "unchanged"
    assert again.plan.compared is None


def test_a_previous_revision_without_an_io_yaml_is_said(hub: HubServer, tmp_path: Path) -> None:
    publish(made(tmp_path, "0.1.0", None), repo=REPO)
    done = publish(made(tmp_path, "0.1.1", LABEL), repo=REPO)
    assert done.plan.compared is not None
    assert "which had no io.yaml: compatible" in done.plan.compared.note
    with pytest.raises(RefusedError) as refused:
        publish(made(tmp_path, "0.1.2", None), repo=REPO)
    assert refused.value.code == "ZO200"


@pytest.mark.parametrize("content", [b"instruction: {", b"response_format: 7\n", b"\xff\xfe"])
def test_a_previous_contract_that_cannot_be_read_wants_a_break(
    hub: HubServer, tmp_path: Path, content: bytes
) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    broken = (tmp_path / "release-0.1.0-0" / "zoo.yaml").read_bytes() + b"version: 0.1.1\n"
    plant(hub, "0.1.1", {"io.yaml": content, "zoo.yaml": broken})
    hub.requests.clear()
    with pytest.raises(RefusedError, match="cannot be read") as refused:
        publish(made(tmp_path, "0.1.2", LABEL), repo=REPO)
    assert refused.value.code == "ZO203"
    assert "0.2.0 or higher" in refused.value.hint
    assert hub.requests.writes() == []
    done = publish(made(tmp_path, "0.2.0", LABEL), repo=REPO)
    assert done.plan.compared is not None
    assert "cannot be read" in done.plan.compared.note


def test_a_published_file_that_is_far_too_large_is_not_downloaded(hub: HubServer, tmp_path: Path) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    plant(hub, "0.1.1", {"io.yaml": b"#" * 4_000_001})
    hub.requests.clear()
    with pytest.raises(RefusedError) as refused:
        publish(made(tmp_path, "0.3.0", LABEL), repo=REPO)
    assert refused.value.code == "ZO204"
    assert not [one for one in hub.requests if one.path.endswith("/io.yaml")]


def test_no_access_is_no_verdict_and_an_outage_is_waited_for(hub: HubServer, tmp_path: Path) -> None:
    first = publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    release = made(tmp_path, "0.1.1", MORE)
    hub.faults.add(Fault(method="POST", path=SIZES, status=403))
    with pytest.raises(HubError) as stopped:
        publish(release, repo=REPO)
    assert (stopped.value.code, stopped.value.exit_code) == ("ZH007", 3)
    down = hub.faults.add(Fault(method="POST", path=SIZES, status=503, times=None))
    with pytest.raises(UnavailableError):
        publish(release, repo=REPO)
    assert hub.store.head(REPO) == first.commit
    hub.faults.clear()
    flaky = hub.faults.add(Fault(method="POST", path=SIZES, status=503, times=2))
    assert publish(release, repo=REPO).outcome == "published"
    assert down.fired > 1
    assert flaky.fired == 2


def test_the_previous_revision_is_the_highest_tag_below() -> None:
    tags = {
        "v0.9.0": "a",
        "v0.10.0": "b",
        "v1.0.0-rc.1": "c",
        "v1.0.0": "d",
        "v2.0.0": "e",
        "stable": "f",
        "v3": "g",
    }
    remote = Remote(exists=True, head="h", tags=tags)
    found = {
        new: previous_revision(Address(repo=REPO), remote, new)
        for new in ("0.1.0", "0.11.0", "1.0.0", "1.0.1", "9.0.0")
    }
    assert found == {
        "0.1.0": ("main", "h"),
        "0.11.0": ("v0.10.0", "b"),
        "1.0.0": ("v1.0.0-rc.1", "c"),
        "1.0.1": ("v1.0.0", "d"),
        "9.0.0": ("v2.0.0", "e"),
    }
    assert previous_revision(Address(repo=REPO), Remote(), "1.0.0") == ("", "")


def test_into_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    first, more = made(tmp_path, "0.1.0", LABEL), made(tmp_path, "0.1.1", MORE)
    assert "nothing to compare with" in said(target, first)
    publish(first, to=target)
    assert "compatible" in said(target, more)
    before = snapshot(target)
    with pytest.raises(RefusedError) as refused:
        publish(made(tmp_path, "0.1.2", OTHER_KEY), to=target)
    assert refused.value.code == "ZO200"
    assert snapshot(target) == before
    publish(made(tmp_path, "0.2.0", OTHER_KEY), to=target)
    assert publish(tmp_path / "release-0.2.0-0", to=target).plan.compared is None


# ---------------------------------------------------------------- zoo diff, of revisions


def compared(old: str, new: str) -> Comparison:
    return Comparison.of(open_contract(old), open_contract(new))


def test_revisions_are_compared_without_their_weights(hub: HubServer, tmp_path: Path) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    publish(made(tmp_path, "0.2.0", OTHER_KEY), repo=REPO)
    hub.requests.clear()
    assert compared(f"{REPO}@v0.1.0", REPO).verdict == "breaking"
    assert compared(f"{REPO}@{hub.store.tags(REPO)['v0.2.0']}", f"{REPO}@main").verdict == "identical"
    assert compared(f"{REPO}@v0.1.0", str(tmp_path / "release-0.1.0-0")).verdict == "identical"
    assert not [one for one in hub.requests if "safetensors" in one.path]


def test_an_adapter_in_a_library_is_named_by_its_folder(hub: HubServer, tmp_path: Path) -> None:
    hub.store.create(REPO)
    config = (made(tmp_path, "0.1.0", None) / "adapter_config.json").read_bytes()
    place = "answerability/granite-4.1-3b/alora"
    hub.store.commit(REPO, {f"{place}/io.yaml": LABEL, f"{place}/adapter_config.json": config})
    found = open_contract(f"{REPO}/{place}")
    assert found.result is not None
    assert found.invocation["ids"] == "[1, 5875, 198]"
    with pytest.raises(NotFoundError) as missing:
        open_contract(REPO)
    assert f"{REPO}/{place}" in missing.value.hint


@pytest.mark.parametrize(
    "source", ["org/nobody", f"{REPO}@v9.9.9", f"{REPO}@{'0' * 40}", "./gone", "one", "a/b@@"]
)
def test_what_is_not_there_is_said(hub: HubServer, tmp_path: Path, source: str) -> None:
    publish(made(tmp_path, "0.1.0", LABEL), repo=REPO)
    with pytest.raises(ZooError) as missing:
        open_contract(source)
    assert missing.value.exit_code == 2
    assert missing.value.hint
