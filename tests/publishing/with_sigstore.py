"""Keyless signatures, in a process that finds the sigstore package; `test_sigstore.py` runs it.

Sigstore's own code signs and verifies; who vouches, certifies and logs is `sigstore_here.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import HubServer
from tests.publishing.conftest import REPO
from tests.publishing.sigstore_here import ISSUER, SigstoreHere, identity_token
from tests.publishing.test_verification import outcomes, write_pair
from tests.releases import write_release
from zoo.attestation.envelope import open_key
from zoo.attestation.keyless import TOKEN_VARIABLE, Identity, open_keyless
from zoo.cli import run
from zoo.errors import RefusedError, UndecidedError, UsageError
from zoo.release import publish
from zoo.verification import verify

pytestmark = [
    pytest.mark.usefixtures("checked"),
    # huggingface_hub 2.4 uploads large files with a spelling that httpx2 deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
WORKFLOW = "https://github.com/org/adapters/.github/workflows/publish.yml@refs/heads/main"
BUNDLE = "provenance.sigstore.json"


@pytest.fixture
def sigstore() -> Iterator[SigstoreHere]:
    with SigstoreHere() as here:
        yield here


@pytest.fixture
def trust(sigstore: SigstoreHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(TOKEN_VARIABLE, identity_token(WORKFLOW))
    return sigstore.trust_config(tmp_path / "trust.json")


@pytest.fixture
def signed(release: Path, tmp_path: Path, trust: Path) -> Path:
    publish(release, to=tmp_path / "signed", signer=open_keyless(trust))
    return tmp_path / "signed"


def who(trust: Path, identity: str = WORKFLOW, issuer: str = ISSUER) -> Identity:
    return Identity(identity=identity, issuer=issuer, trust=trust)


def test_whoever_signed_is_told_from_everybody_else(
    signed: Path, trust: Path, sigstore: SigstoreHere
) -> None:
    assert len(sigstore.entries) == 1
    assert outcomes(verify(str(signed), identity=who(trust)))["ZA004"] == "passed"
    for other in (
        who(trust, WORKFLOW.replace("main", "fork")),
        who(trust, WORKFLOW.replace("org/", "else/")),
        who(trust, issuer="https://other.example"),
    ):
        report = verify(str(signed), identity=other)
        assert outcomes(report)["ZA004"] == "error"
        assert report.exit_code == 1
    assert outcomes(verify(str(signed)))["ZA004"] == "skipped"  # its presence proves nothing


def test_another_sigstore_is_not_believed(signed: Path, tmp_path: Path) -> None:
    with SigstoreHere() as other:
        trust = other.trust_config(tmp_path / "other.json")
        assert outcomes(verify(str(signed), identity=who(trust)))["ZA004"] == "error"


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "zoo.yaml", "zoo.lock.json", "bom.cdx.json"])
def test_it_covers_every_file_but_the_card(signed: Path, trust: Path, name: str) -> None:
    (signed / "README.md").write_text("edited on the Hub")
    assert outcomes(verify(str(signed), identity=who(trust)))["ZA004"] == "passed"
    path = signed / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert outcomes(verify(str(signed), identity=who(trust))).get("ZA004") in ("error", None)
    assert verify(str(signed), identity=who(trust)).exit_code == 1


def _payload(bundle: Any) -> None:
    bundle["dsseEnvelope"]["payload"] = bundle["dsseEnvelope"]["payload"][:-8] + "AAAAfQ=="


def _time(bundle: Any) -> None:
    bundle["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = "1600000000"


def _proof(bundle: Any) -> None:
    bundle["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["rootHash"] = "A" * 43 + "="


def _no_promise(bundle: Any) -> None:
    del bundle["verificationMaterial"]["tlogEntries"][0]["inclusionPromise"]


def _no_entry(bundle: Any) -> None:
    bundle["verificationMaterial"]["tlogEntries"] = []


@pytest.mark.parametrize("damage", [_payload, _time, _proof, _no_promise, _no_entry, dict.clear])
def test_a_damaged_bundle_is_an_error_and_never_a_crash(signed: Path, trust: Path, damage: Any) -> None:
    bundle = json.loads((signed / BUNDLE).read_text())
    damage(bundle)
    (signed / BUNDLE).write_text(json.dumps(bundle))
    assert outcomes(verify(str(signed), identity=who(trust)))["ZA004"] == "error"


def test_a_bundle_of_another_release_is_an_error(signed: Path, trust: Path, tmp_path: Path) -> None:
    publish(write_release(tmp_path / "2", seed=2), to=tmp_path / "other", signer=open_keyless(trust))
    (signed / BUNDLE).write_bytes((tmp_path / "other" / BUNDLE).read_bytes())
    assert outcomes(verify(str(signed), identity=who(trust)))["ZA004"] == "error"
    (signed / BUNDLE).unlink()
    assert outcomes(verify(str(signed), identity=who(trust)))["ZA004"] == "error"


def test_published_again_by_the_same_identity_it_keeps_its_signature_and_by_another_it_is_refused(
    hub: HubServer, release: Path, trust: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(release, repo=REPO, signer=open_keyless(trust))
    bundle = hub.store.contents(REPO)[BUNDLE]
    assert verify(f"{REPO}@v0.1.0", identity=who(trust)).exit_code == 0
    again = publish(release, repo=REPO, signer=open_keyless(trust))
    assert (again.outcome, again.commit) == ("unchanged", first.commit)
    assert publish(release, repo=REPO).outcome == "unchanged"
    assert hub.store.contents(REPO)[BUNDLE] == bundle
    monkeypatch.setenv(TOKEN_VARIABLE, identity_token("somebody@else.example"))
    with pytest.raises(RefusedError, match="another signature") as refused:
        publish(release, repo=REPO, signer=open_keyless(trust))
    assert refused.value.code == "ZH002"


def test_a_key_and_an_identity_are_told_apart(
    release: Path, tmp_path: Path, signed: Path, trust: Path
) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private, _ = write_pair(tmp_path / "keys", Ed25519PrivateKey.generate())
    publish(release, to=tmp_path / "by-key", signer=open_key(private))
    assert outcomes(verify(str(tmp_path / "by-key"), identity=who(trust)))["ZA004"] == "error"


@pytest.mark.parametrize("token", ["", "no token", identity_token(WORKFLOW, seconds=-60)])
def test_without_an_identity_it_is_said_before_anything_is_done(
    trust: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with pytest.raises(UndecidedError) as stopped:
        open_keyless(trust)
    assert stopped.value.code == "ZA008"
    assert not token or token not in str(stopped.value)


def test_a_refusal_by_fulcio_publishes_nothing(
    hub: HubServer, release: Path, trust: Path, sigstore: SigstoreHere
) -> None:
    sigstore.refuses = 403
    with pytest.raises(UndecidedError) as stopped:
        publish(release, repo=REPO, signer=open_keyless(trust))
    assert stopped.value.code == "ZA008"
    assert hub.requests.writes() == []


def test_a_trust_configuration_that_is_none_is_said(tmp_path: Path, trust: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(UsageError):
        open_keyless(tmp_path / "bad.json")


def test_the_commands_sign_and_verify_and_print_no_token(
    hub: HubServer,
    release: Path,
    trust: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    token = identity_token(WORKFLOW)
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    assert run(["publish", str(release), "--repo", REPO, "--sigstore", "--trust-config", str(trust)]) == 0
    known = ["--identity", WORKFLOW, "--issuer", ISSUER, "--trust-config", str(trust)]
    assert run(["verify", f"{REPO}@v0.1.0", *known]) == 0
    assert run(["verify", f"{REPO}@v0.1.0", *known[:1], "me@example.org", *known[2:]]) == 1
    assert run(["verify", f"{REPO}@v0.1.0", "--identity", WORKFLOW]) == 2
    assert run(["verify", f"{REPO}@v0.1.0"]) == 3
    printed = "".join(capfd.readouterr())
    assert WORKFLOW in printed
    for secret in (token, token.split(".")[2], hub.token):
        assert secret not in printed
