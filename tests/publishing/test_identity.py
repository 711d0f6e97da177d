"""Publishing again with another zoo: what is released counts, not which zoo wrote it or checked it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, Outcomes
from tests.publishing.test_verification import outcomes, write_pair
from tests.releases import ENVIRONMENT, OUTCOMES, failed, write_release
from zoo.attestation import bom, statement
from zoo.attestation.envelope import open_key
from zoo.errors import RefusedError, VerdictError
from zoo.publishing.identity import same_release
from zoo.release import publish
from zoo.render.json import to_document
from zoo.report import Passed
from zoo.specs.lock import Lock
from zoo.verification import verify

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
NEW = "0.2.0"


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch, checked: Outcomes) -> Callable[[], None]:
    """Makes this another zoo: it has one check more, and writes bills, statements and locks otherwise."""

    def upgrade() -> None:
        monkeypatch.setitem(ENVIRONMENT, "alora-zoo", NEW)
        checked([*OUTCOMES, ("ZX900", "A check that is new", Passed())])
        old = bom.bill

        def bill(*arguments: Any, **settings: Any) -> dict[str, Any]:
            return old(*arguments, **settings) | {"properties": [{"name": "new", "value": "yes"}]}

        monkeypatch.setattr(bom, "bill", bill)
        monkeypatch.setattr(statement, "BUILDER", "https://example.org/moved")
        write = json.dumps
        monkeypatch.setattr(
            "zoo.publishing.stage.dump_lock",
            lambda lock: write(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n",
        )

    return upgrade


def converted_by(folder: Path, version: str) -> Path:
    """A release as another zoo would have made it from the same: only its name for itself differs."""
    write_release(folder)
    path = folder / "zoo.lock.json"
    lock = json.loads(path.read_text()) | {"zoo_version": version}
    lock["training"]["versions"]["alora-zoo"] = version
    path.write_text(json.dumps(lock))
    return folder


@pytest.mark.parametrize("signed", [False, True])
def test_a_newer_zoo_finds_the_version_published(
    hub: HubServer, release: Path, tmp_path: Path, upgraded: Callable[[], None], signed: bool
) -> None:
    key, _ = write_pair(tmp_path / "keys", ed25519.Ed25519PrivateKey.generate())
    signer = open_key(key) if signed else None
    first = publish(release, repo=REPO, signer=signer)
    upgraded()
    hub.requests.clear()
    for source in (release, converted_by(tmp_path / "again", NEW)):
        again = publish(source, repo=REPO, signer=signer)
        assert (again.outcome, again.commit) == ("unchanged", first.commit)
        assert again.lines()[0].startswith("already published: ")
    assert hub.requests.writes() == []

    with pytest.raises(RefusedError) as refused:  # the control: other weights
        publish(write_release(tmp_path / "other", seed=1), repo=REPO, signer=signer)
    assert refused.value.code == "ZH002"


def test_another_key_is_another_signature_with_any_zoo(
    hub: HubServer, release: Path, tmp_path: Path, upgraded: Callable[[], None]
) -> None:
    mine, theirs = (
        open_key(write_pair(tmp_path / name, ed25519.Ed25519PrivateKey.generate())[0])
        for name in ("mine", "theirs")
    )
    publish(release, repo=REPO, signer=theirs)
    for change in (lambda: None, upgraded):
        change()
        with pytest.raises(RefusedError, match="with another signature") as refused:
            publish(release, repo=REPO, signer=mine)
        assert refused.value.code == "ZH002"


def test_a_bill_of_other_files_is_found_with_any_zoo(
    hub: HubServer, release: Path, upgraded: Callable[[], None]
) -> None:
    publish(release, repo=REPO)
    bill = json.loads(hub.store.contents(REPO)["bom.cdx.json"])
    bill["components"][-1]["hashes"][0]["content"] = "0" * 64
    hub.store.commit(REPO, {"bom.cdx.json": json.dumps(bill).encode()})
    hub.store.repository(REPO).refs["refs/tags/v0.1.0"] = hub.store.head(REPO)
    for change in (lambda: None, upgraded):
        change()
        with pytest.raises(VerdictError, match=r"bom\.cdx\.json") as refused:
            publish(release, repo=REPO)
        assert refused.value.code == "ZH004"


def test_a_folder_of_an_older_zoo_is_not_refused(
    release: Path, tmp_path: Path, upgraded: Callable[[], None]
) -> None:
    publish(release, to=tmp_path / "out")
    lock = (tmp_path / "out" / "zoo.lock.json").read_bytes()
    upgraded()
    publish(converted_by(tmp_path / "again", NEW), to=tmp_path / "out")
    assert (tmp_path / "out" / "zoo.lock.json").read_bytes() == lock


def with_evidence(folder: Path, checked: Outcomes, *arguments: Any) -> Lock:
    from zoo.publishing import stage

    checked(*arguments)
    report: Any = stage.validate
    lock = Lock.model_validate_json((folder / "zoo.lock.json").read_text())
    return lock.model_copy(update={"evidence": to_document(report(folder))})


def test_checks_of_one_zoo_are_all_the_same_and_of_two_those_that_both_have(
    release: Path, checked: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = with_evidence(release, checked, OUTCOMES)
    more = [*OUTCOMES, ("ZX900", "A check that is new", Passed())]
    assert same_release(old, with_evidence(release, checked, OUTCOMES))
    assert not same_release(old, with_evidence(release, checked, more))
    monkeypatch.setitem(ENVIRONMENT, "alora-zoo", NEW)
    assert same_release(old, with_evidence(release, checked, more))
    assert same_release(old, with_evidence(release, checked, [*more[2:], *more[:2]]))  # in another order
    assert not same_release(old, with_evidence(release, checked, failed("ZR001")))
    other = [("ZF001", "t", more[1][2]), *more[1:]]  # it passes with a remark where it passed without
    assert not same_release(old, with_evidence(release, checked, other))
    assert not same_release(old, old.model_copy(update={"evidence": None}))


def test_what_another_zoo_published_verifies_with_a_remark_and_another_base_in_its_bill_does_not(
    hub: HubServer, release: Path, upgraded: Callable[[], None]
) -> None:
    upgraded()
    publish(release, repo=REPO)
    report = verify(f"{REPO}@v0.1.0")
    assert (outcomes(report)["ZA006"], report.exit_code) == ("warning", 0)
    changes: tuple[Callable[[Any], object], ...] = (
        lambda bill: bill["components"][0].update(name="org/other"),
        lambda bill: bill["components"][-1].update(name="other.md"),
        lambda bill: bill["metadata"]["component"].update(licenses=[]),
        dict.clear,
    )
    for change in changes:
        bill = json.loads(hub.store.contents(REPO, "v0.1.0")["bom.cdx.json"])
        change(bill)
        hub.store.commit(REPO, {"bom.cdx.json": json.dumps(bill).encode()})
        report = verify(f"{REPO}@main")
        assert (outcomes(report)["ZA006"], report.exit_code) == ("error", 1)
