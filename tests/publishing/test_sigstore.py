"""Keyless signatures: without the package here, with it in a process that finds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.releases import write_release
from zoo.attestation.keyless import Identity
from zoo.attestation.signing import open_signer
from zoo.errors import MissingExtraError, UsageError

ROOT = Path(__file__).resolve().parents[2]


def package_folder() -> Path:
    """Where sigstore is, with what it needs: a dozen packages that nothing else here uses."""
    folder = Path(os.environ.get("ZOO_SIGSTORE_PACKAGES", ROOT / ".venv-sigstore"))
    if not (folder / "sigstore").is_dir():
        pytest.fail(
            f"no sigstore in {folder}: run `make .venv-sigstore`, or set ZOO_SIGSTORE_PACKAGES", False
        )
    return folder


def without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore", None)


def test_without_sigstore_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_package(monkeypatch)
    for call in (
        lambda: open_signer(None, keyless=True),
        lambda: Identity(identity="me@example.org", issuer="https://issuer.example").verify(b"{}"),
    ):
        with pytest.raises(MissingExtraError) as missing:
            call()
        assert missing.value.hint == "pip install 'alora-zoo[sigstore]'"
        assert missing.value.exit_code == 3


def test_a_release_is_signed_one_way(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one way"):
        open_signer(write_release(tmp_path / "release") / "zoo.yaml", keyless=True)
    with pytest.raises(UsageError, match="another Sigstore"):
        open_signer(None, trust=tmp_path / "trust.json")
    assert open_signer(None) is None


@pytest.mark.slow
def test_with_sigstore_all_of_it_works() -> None:
    """`with_sigstore.py`, as tests of a process that has the package."""
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest"), "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         "tests/publishing/with_sigstore.py"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(package_folder()), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "21 passed" in done.stdout


def test_control_without_the_package_that_process_fails(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_SIGSTORE_PACKAGES", str(tmp_path))
        with pytest.raises(pytest.fail.Exception, match=r"make \.venv-sigstore"):
            package_folder()
