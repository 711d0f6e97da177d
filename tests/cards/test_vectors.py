"""The card's program that tests an engine, run as printed: on PEFT, and on engines that deviate."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import build_tiny_base
from tests.real_release import real_release
from tests.releases import write_release
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.models import resolve
from zoo.specs.release import BaseRef
from zoo.validators.record import prepare
from zoo.validators.validate import Settings, Validation

LINES = 40
CALL = "last = model(input_ids=rows[:, prefix_length:], past_key_values=cache).logits[0, -1]"
# what stands in its place in an engine that deviates: everything in one call with the offsets given
WHOLE = "last = model(input_ids=rows, alora_offsets=[OFFSET]).logits[0, -1]"


def program(folder: Path, hub_id: str = "") -> str:
    card = render_card(AdapterRepo.open(folder), None, hub_id=hub_id)
    found = re.search(r"## Check an engine\n.*?```python\n(.*?)\n```", card, re.DOTALL)
    assert found
    return found.group(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with its vectors; the base lies beside it where the card's program finds it."""
    root = tmp_path_factory.mktemp("card")
    base = resolve(str(build_tiny_base(root / "tests" / "tiny-llama")))
    release = real_release(base, root / "release")
    opened = Validation.open(release, Settings(base=str(base.folder)))
    assert prepare(opened.context) == ""
    (release / "tests").symlink_to(root / "tests")
    return release


def run(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The program's exit code, run in this process: starting one takes longer than all the rest."""
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        exec(compile(code, "card", "exec"), {})
    return int(ended.value.code or 0)


def test_peft_agrees_in_a_process_of_its_own(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program(folder)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.endswith(": agrees") for line in lines)


@pytest.mark.parametrize(
    ("offset", "said"),
    [
        ("None", "the base model"),
        ("len(ids) - prefix_length + 1", "a start one token early"),
        ("len(ids) - prefix_length - 1", "a start one token late"),
        ("len(ids)", "a plain LoRA on every token"),
    ],
)
def test_an_engine_that_deviates_is_told_what_it_does(
    folder: Path, offset: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = program(folder)
    assert code.count(CALL) == 1
    assert run(code.replace(CALL, WHOLE.replace("OFFSET", offset)), folder, monkeypatch) == 1
    assert capsys.readouterr().out.count(f"DEVIATES, nearest is {said} (") == 3


def test_an_engine_with_the_adapter_switched_off_says_base(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = program(folder).replace(
        "\ndef log_probs", "\nmodel.base_model.disable_adapter_layers()\ndef log_probs", 1
    )
    code = code.replace("with model.disable_adapter():", "if True:")  # leaving it would switch the adapter on
    assert run(code, folder, monkeypatch) == 1
    assert capsys.readouterr().out.count("nearest is the base model (") == 3


@pytest.mark.parametrize(
    ("change", "code"),
    [
        # the 20 likeliest tokens only, as servers give them
        ("dict(sorted(enumerate(last.log_softmax(-1).tolist()), key=lambda one: -one[1])[:20])", 0),
        ("{0: 0.0}", 1),
        ("dict.fromkeys(range(len(last)), float('nan'))", 1),
    ],
)
def test_an_answer_may_be_short_but_not_empty(
    folder: Path, change: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = "dict(enumerate(last.log_softmax(-1).tolist()))"
    text = program(folder)
    assert text.count(whole) == 1
    assert run(text.replace(whole, change), folder, monkeypatch) == code


@pytest.mark.parametrize(
    "base",
    [
        BaseRef(id="tests/tiny-llama"),
        BaseRef(id="tests/tiny-llama", revision="0" * 40),
        BaseRef(id="HuggingFaceTB/SmolLM2-135M-Instruct", embedded="smollm2-135m-instruct"),
    ],
)
@pytest.mark.parametrize("hub_id", ["", "org/relevance"])
def test_it_has_at_most_forty_lines_and_needs_little(tmp_path: Path, base: BaseRef, hub_id: str) -> None:
    release = write_release(tmp_path / "release", base=base, files={"conformance.safetensors": b"x"})
    text = program(release, hub_id)
    assert len(text.splitlines()) <= LINES
    assert "{{" not in text
    compile(text, "card", "exec")
    imported = set(re.findall(r"^(?:from|import) ([\w.]+)", text, re.MULTILINE))
    own = {"json", "numpy", "safetensors"}
    engine = {"torch", "peft", "transformers", *(["zoo.models"] if base.embedded else [])}
    assert imported == own | engine


def test_a_release_without_vectors_has_no_such_section(tmp_path: Path) -> None:
    card = render_card(AdapterRepo.open(write_release(tmp_path / "release")), None)
    assert "Check an engine" not in card
