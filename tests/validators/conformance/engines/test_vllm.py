"""vLLM's side of the pipe, played by a stand-in: the real one is 3.4 GB and refuses every aLoRA."""

from pathlib import Path

import pytest

from tests.validators.conformance.bench import said
from tests.validators.conformance.engines.conftest import judged
from zoo.report import Flagged, Skipped
from zoo.validators.check import Context

# the script it is given goes unread: it answers as vllm_child.py does
STAND_IN = """\
#!/bin/sh
case "$1" in -c) echo {version} vllm; exit 0;; esac
echo 'some log' >&2
{start}
while read line; do
  case "$line" in
    *'"adapter": true'*) {adapter} ;;
    *) echo '{{"log_probs": [[1, -0.1], [2, -2.0]], "cached": 0}}' ;;
  esac
done
"""
READY = "echo '{}'"
DIES = "echo 'ValueError: vLLM does not support Activated LoRA (aLoRA).' >&2; exit 1"


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "python"
    monkeypatch.setenv("ZOO_VLLM_PYTHON", str(path))
    return path


def write(path: Path, *, version: str = "0.32.0", start: str = READY, adapter: str = DIES) -> None:
    path.write_text(STAND_IN.format(version=version, start=start, adapter=adapter))
    path.chmod(0o755)


def test_it_refuses_as_known(stand_in: Path, context: Context) -> None:
    write(stand_in)
    found = judged(context, "vllm")["ZE001"]
    assert isinstance(found, Flagged)
    assert "known: this engine refuses an aLoRA: vLLM does not support Activated LoRA" in said(found)
    assert found.measured["vllm_version"] == "0.32.0"


def test_an_old_one_that_refuses_is_news(stand_in: Path, context: Context) -> None:
    write(stand_in, version="0.31.0")
    assert "new: it refuses" in said(judged(context, "vllm")["ZE001"])


def test_one_that_does_not_start(stand_in: Path, context: Context) -> None:
    write(stand_in, start='echo \'{"error": "no module named vllm"}\'; exit 0')
    found = judged(context, "vllm")["ZE001"]
    assert isinstance(found, Skipped)
    assert "vllm does not start: no module named vllm" in found.reason


def test_one_that_dies_at_once(stand_in: Path, context: Context) -> None:
    write(stand_in, start="exit 3")
    found = judged(context, "vllm")["ZE001"]
    assert isinstance(found, Skipped)
    assert "ended with status 3; it last said: some log" in found.reason


def test_one_that_answers_something_else(stand_in: Path, context: Context) -> None:
    answer = 'echo \'{"log_probs": [[1, -0.1], [2, -2.0]], "cached": 0}\''
    write(stand_in, version="0.31.0", adapter=answer)
    found = judged(context, "vllm")
    assert isinstance(found["ZE002"], Skipped)
    assert "something that is not finite nats from ours" in said(found["ZE002"])
