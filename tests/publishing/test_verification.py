"""`zoo verify`: what was published verifies, and every way of changing it since does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, Outcomes
from tests.releases import skipped, write_release
from zoo import hub as client
from zoo.attestation.envelope import open_key, open_public_key
from zoo.cli import run as run_zoo
from zoo.errors import NotFoundError, RefusedError, UsageError
from zoo.release import publish
from zoo.report import Flagged, Report
from zoo.verification import verify

pytestmark = [
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
Edit = Callable[[Path], object]


def write_pair(folder: Path, private: Any, *, password: bytes = b"") -> tuple[Path, Path]:
    """A private and a public key as PEM files."""
    folder.mkdir(exist_ok=True)
    kept, given = folder / "zoo.key", folder / "zoo.pub"
    hidden = BestAvailableEncryption(password) if password else NoEncryption()
    kept.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden))
    given.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return kept, given


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_pair(tmp_path / "keys", ed25519.Ed25519PrivateKey.generate())


@pytest.fixture
def signed(release: Path, tmp_path: Path, checked: Outcomes, keys: tuple[Path, Path]) -> Path:
    """A release published into a folder, signed."""
    publish(release, to=tmp_path / "signed", signer=open_key(keys[0]))
    return tmp_path / "signed"


def outcomes(report: Report) -> dict[str, str]:
    return {
        result.code: result.outcome.severity.value
        if isinstance(result.outcome, Flagged)
        else type(result.outcome).__name__.lower()
        for result in report.results
    }


ALL_WELL = dict.fromkeys(("ZL001", "ZA002", "ZA003", "ZA004", "ZA005", "ZA006"), "passed") | {
    "ZA007": "notapplicable"  # a folder has no tag
}
AT_TAG = ALL_WELL | {"ZA007": "passed"}


def test_a_signed_publication_verifies_with_its_key_and_with_no_other(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    report = verify(str(signed), key=open_public_key(keys[1]))
    assert outcomes(report) == ALL_WELL
    assert report.exit_code == 0
    _, other = write_pair(tmp_path / "other", ed25519.Ed25519PrivateKey.generate())
    assert outcomes(verify(str(signed), key=open_public_key(other))) == ALL_WELL | {"ZA004": "error"}


def test_without_a_key_a_signature_is_not_checked_and_that_is_not_passed(signed: Path) -> None:
    report = verify(str(signed))
    assert outcomes(report) == ALL_WELL | {"ZA004": "skipped"}
    assert report.exit_code == 3


def test_an_unsigned_release_says_so_and_with_a_key_it_fails(
    release: Path, tmp_path: Path, checked: Outcomes, keys: tuple[Path, Path]
) -> None:
    publish(release, to=tmp_path / "plain")
    report = verify(str(tmp_path / "plain"))
    assert outcomes(report) == ALL_WELL | {"ZA004": "notapplicable"}
    assert report.exit_code == 0
    assert outcomes(verify(str(tmp_path / "plain"), key=open_public_key(keys[1])))["ZA004"] == "error"


def rewrite_lock(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    lock = json.loads((folder / "zoo.lock.json").read_text())
    change(lock)
    (folder / "zoo.lock.json").write_text(
        json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    )


def replace_weights_and_digest(folder: Path) -> None:
    """The thorough forger: other weights, recorded in the lock as if they had been there."""
    from zoo.provenance import sha256_file

    append(folder / "zoo.yaml")
    rewrite_lock(folder, lambda lock: lock["files"].update({"zoo.yaml": sha256_file(folder / "zoo.yaml")}))


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def evidence_of_failure(lock: dict[str, Any]) -> None:
    lock["evidence"] = None


@pytest.mark.parametrize(
    ("edit", "codes"),
    [
        (lambda folder: append(folder / "adapter_model.safetensors"), {"ZA002", "ZA004"}),
        (lambda folder: append(folder / "zoo.yaml"), {"ZA002", "ZA004", "ZA006"}),
        (lambda folder: (folder / "extra.md").write_text("more"), {"ZA002", "ZA004"}),
        (lambda folder: (folder / "adapter_config.json").unlink(), None),
        (replace_weights_and_digest, {"ZA003", "ZA004", "ZA005", "ZA006"}),
        (lambda folder: rewrite_lock(folder, evidence_of_failure), {"ZA003", "ZA004", "ZA005", "ZA006"}),
        (lambda folder: append(folder / "README.md"), {"ZA005"}),
        (lambda folder: append(folder / "bom.cdx.json"), {"ZA004", "ZA006"}),
        (lambda folder: (folder / "provenance.intoto.jsonl").write_text("{}"), {"ZA004"}),
        (lambda folder: (folder / "provenance.intoto.jsonl").unlink(), {"ZA004"}),
        (lambda folder: (folder / "zoo.lock.json").write_text("{"), {"ZL001"}),
    ],
)
def test_what_was_changed_since_is_found(
    signed: Path, keys: tuple[Path, Path], edit: Edit, codes: set[str] | None
) -> None:
    edit(signed)
    if codes is None:
        with pytest.raises(NotFoundError):
            verify(str(signed), key=open_public_key(keys[1]))
        return
    report = verify(str(signed), key=open_public_key(keys[1]))
    assert {code for code, said in outcomes(report).items() if said in ("error", "warning")} >= codes
    assert {code for code, said in outcomes(report).items() if said == "passed"}.isdisjoint(codes)
    assert report.exit_code == (0 if codes == {"ZA005"} else 1)


def test_every_byte_of_the_envelope_counts(signed: Path, keys: tuple[Path, Path]) -> None:
    """Payload, type and signature: one changed character anywhere, and it does not verify."""
    path, key = signed / "provenance.intoto.jsonl", open_public_key(keys[1])
    text = path.read_text()
    envelope = json.loads(text)
    for name in ("payload", "payloadType"):
        for place in (0, len(envelope[name]) // 2, len(envelope[name]) - 3):
            other = "A" if envelope[name][place] != "A" else "B"
            changed = envelope | {name: envelope[name][:place] + other + envelope[name][place + 1 :]}
            path.write_text(json.dumps(changed))
            assert outcomes(verify(str(signed), key=key))["ZA004"] == "error"
    path.write_text(json.dumps(envelope | {"signatures": [envelope["signatures"][0] | {"keyid": "other"}]}))
    assert outcomes(verify(str(signed), key=key))["ZA004"] == "passed"  # a key id is a hint, says DSSE
    path.write_text(json.dumps(envelope | {"signatures": []}))
    assert outcomes(verify(str(signed), key=key))["ZA004"] == "error"


def test_from_the_hub_at_its_tag_and_from_a_snapshot_in_the_cache(
    hub: HubServer, release: Path, checked: Outcomes, keys: tuple[Path, Path]
) -> None:
    published = publish(release, repo=REPO, signer=open_key(keys[0]))
    key = open_public_key(keys[1])
    report = verify(f"{REPO}@v0.1.0", key=key)
    assert outcomes(report) == AT_TAG
    assert report.environment == {"commit": published.commit, "tag": "v0.1.0"}
    from huggingface_hub import HfApi

    snapshot = HfApi().snapshot_download(REPO, revision="v0.1.0")
    assert any(path.is_symlink() for path in Path(snapshot).iterdir())
    assert outcomes(verify(snapshot, key=key)) == ALL_WELL
    # a card edited on the Hub leaves the signature whole, and is said
    hub.store.commit(REPO, {"README.md": b"# Buy now\n"})
    assert outcomes(verify(f"{REPO}@main", key=key)) == ALL_WELL | {"ZA005": "warning"}
    hub.store.commit(REPO, {"zoo.yaml": b"name: other\n"})
    assert verify(f"{REPO}@main", key=key).exit_code == 1
    assert verify(f"{REPO}@v0.1.0", key=key).exit_code == 0


def test_an_old_release_under_a_new_tag_is_not_that_version(
    hub: HubServer, release: Path, checked: Outcomes, keys: tuple[Path, Path]
) -> None:
    """Files and signature are right: the tag is what lies."""
    done = publish(release, repo=REPO, signer=open_key(keys[0]))
    key = open_public_key(keys[1])
    for tag in ("v0.2.0", "0.1.1", "stable"):
        client.create_tag(REPO, tag, done.commit)
    for tag, said in (
        ("v0.1.0", "passed"),
        ("v0.2.0", "error"),
        ("0.1.1", "error"),
        ("stable", "notapplicable"),
    ):
        assert outcomes(verify(f"{REPO}@{tag}", key=key)) == ALL_WELL | {"ZA007": said}


def test_a_folder_here_does_not_stand_in_for_a_tag_there(
    hub: HubServer, release: Path, checked: Outcomes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = publish(release, repo=REPO)
    publish(release, to=tmp_path / "here" / f"{REPO}@v0.1.0")
    monkeypatch.chdir(tmp_path / "here")
    assert verify(f"{REPO}@v0.1.0").environment["commit"] == done.commit
    assert verify(f"./{REPO}@v0.1.0").environment == {}


def test_what_clients_keep_for_themselves_is_not_part_of_a_download(
    hub: HubServer, release: Path, checked: Outcomes, tmp_path: Path
) -> None:
    publish(release, repo=REPO)
    hub.store.commit(REPO, {".cache/more.bin": b"x"})
    assert outcomes(verify(f"{REPO}@main"))["ZA002"] == "error"
    publish(release, to=tmp_path / "here")
    (tmp_path / "here" / ".cache").mkdir()
    (tmp_path / "here" / ".cache" / "client").write_text("x")
    assert outcomes(verify(str(tmp_path / "here")))["ZA002"] == "passed"


def test_of_a_library_one_folder_is_downloaded_and_it_is_said_which(
    hub: HubServer, release: Path, checked: Outcomes, tmp_path: Path
) -> None:
    publish(release, to=tmp_path / "one")
    files = {f"one/{p.name}": p.read_bytes() for p in (tmp_path / "one").iterdir()}
    hub.store.create("org/library")
    hub.store.commit("org/library", {**files, "big.bin": b"nobody asked for this"})
    report = verify("org/library/one@main")
    assert outcomes(report)["ZA002"] == "passed"
    assert report.environment["folder"] == "one"
    assert not hub.requests.matching("GET", r"/org/library/resolve/.*/big\.bin")
    assert verify("org/library").environment["folder"] == "one"
    with pytest.raises(NotFoundError, match="org/library/two holds no adapter"):
        verify("org/library/two")
    with pytest.raises(UsageError, match="says where"):
        verify("org/library/one", hub_id="org/other")


def test_what_evidence_leaves_out_is_what_zoo_yaml_allows_and_no_more(
    tmp_path: Path, checked: Outcomes
) -> None:
    from zoo.specs.release import GatePolicy

    gate = GatePolicy(allowed_skips={"ZB001": "no data is licensed yet"})
    checked(skipped("ZB001"), allowed=gate)
    publish(write_release(tmp_path / "said", gate=gate), to=tmp_path / "a")
    assert outcomes(verify(str(tmp_path / "a")))["ZA003"] == "info"
    publish(write_release(tmp_path / "unsaid"), to=tmp_path / "b")
    assert outcomes(verify(str(tmp_path / "b")))["ZA003"] == "error"


@pytest.mark.parametrize("source", ["org/none@v1.0.0", f"{REPO}@v9.0.0", "./nowhere", "not a name"])
def test_what_is_not_there_is_not_found(
    hub: HubServer, release: Path, checked: Outcomes, source: str
) -> None:
    publish(release, repo=REPO)
    with pytest.raises(NotFoundError):
        verify(source)


def test_a_signature_is_the_same_each_time_so_a_second_run_changes_nothing(
    hub: HubServer, release: Path, checked: Outcomes, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    signer = open_key(keys[0])
    first = publish(release, repo=REPO, signer=signer)
    assert publish(release, repo=REPO, signer=signer).outcome == "unchanged"
    assert publish(release, repo=REPO).outcome == "unchanged"  # who has no key keeps what is there
    assert client.read_remote(REPO).head == first.commit
    other, _ = write_pair(tmp_path / "other", ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(RefusedError, match="another signature") as refused:
        publish(release, repo=REPO, signer=open_key(other))
    assert refused.value.code == "ZH002"


def test_keys_that_cannot_sign_are_refused_and_nothing_of_them_is_said(tmp_path: Path) -> None:
    curve, public = write_pair(tmp_path / "curve", ec.generate_private_key(ec.SECP256R1()))
    hidden, _ = write_pair(tmp_path / "hidden", ed25519.Ed25519PrivateKey.generate(), password=b"good pass")
    damaged = tmp_path / "damaged.key"
    damaged.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    for path, password in ((curve, ""), (hidden, ""), (hidden, "wrong"), (damaged, ""), (public, "")):
        with pytest.raises(UsageError) as refused:
            open_key(path, password)
        assert refused.value.code == "ZA004"
        assert "c2VjcmV0" not in str(refused.value)
    assert open_key(hidden, "good pass") is not None
    with pytest.raises(UsageError):
        open_public_key(damaged)


def test_the_command_says_what_it_found(
    signed: Path, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_zoo(["verify", str(signed), "--key", str(keys[1])]) == 0
    assert "ZA004  The signature is the publisher's" in capsys.readouterr().out
    assert run_zoo(["verify", str(signed), "--key", str(keys[1]), "--trust-config", "x.json"]) == 2
    capsys.readouterr()
    assert run_zoo(["verify", str(signed)]) == 3
    assert "--key publisher.pub" in capsys.readouterr().out
    (signed / "extra.md").write_text("more")
    assert run_zoo(["verify", str(signed), "--key", str(keys[1]), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "failed"


def test_the_bill_of_materials_is_valid_cyclonedx(signed: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (signed / "bom.cdx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    broken = json.loads(text)
    broken["metadata"]["component"]["modelCard"]["modelParameters"]["task"] = 7
    assert validator.validate_str(json.dumps(broken)) is not None  # the control


def test_the_statement_is_one_of_slsa_over_every_file_but_the_card(signed: Path) -> None:
    import base64

    envelope = json.loads((signed / "provenance.intoto.jsonl").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    files = {path.relative_to(signed).as_posix() for path in signed.rglob("*") if path.is_file()}
    assert {one["name"] for one in statement["subject"]} == files - {"README.md", "provenance.intoto.jsonl"}
