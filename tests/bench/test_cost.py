import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cards.test_card import card_of
from tests.pictures.test_pictures import colours
from tests.validators.releases import build_release
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.cli import run
from zoo.models import BaseModel
from zoo.pictures.canvas import OWN, QUIET, numbers_of
from zoo.pictures.cost import COST_NAME, alternative, draw, numbers
from zoo.specs.lock import CostPoint, CostRecord

COST = CostRecord(
    machine="A machine | with a name",
    device="cuda",
    dtype="bfloat16",
    suffix_tokens=3,
    runs=5,
    points=[CostPoint(tokens=n, reused=0.01, recomputed=0.01 + n / 20_000) for n in (256, 1024, 4096)],
    versions={"torch": "2.13.0"},
)


@pytest.fixture
def release(tiny_base: BaseModel, tmp_path: Path) -> Path:
    return build_release(tiny_base, tmp_path / "release")


def test_a_context_that_is_read_again_costs_more_the_longer_it_is(
    release: Path, tiny_base: BaseModel, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["cost", str(release), "--base", str(tiny_base.folder), "--tokens", "1500,16", "--json", "-q"]
    assert run(arguments) == 0
    found = CostRecord.model_validate_json(capsys.readouterr().out)
    short, long = found.points
    assert (short.tokens, long.tokens) == (16, 1500)
    assert long.recomputed > 2 * long.reused  # 1,504 tokens against 4: far beyond what a busy machine adds
    assert long.recomputed / long.reused > short.recomputed / short.reused


def test_what_is_recorded_is_in_the_card_with_its_picture(
    release: Path, tiny_base: BaseModel, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "cost",
        str(release),
        "--base",
        str(tiny_base.folder),
        "--tokens",
        "16,64",
        "--runs",
        "1",
        "-q",
    ]
    assert run([*arguments, "--record"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == ["tokens", "reused", "read", "again", "times"]
    assert "zoo validate" in said.err
    repo = AdapterRepo.open(release)
    assert repo.lock is not None
    assert repo.lock.cost is not None
    assert COST_NAME in repo.lock.files
    assert numbers_of(release / COST_NAME) == numbers(repo.lock.cost)
    card = render_card(repo, None)
    assert "## Cost" in card
    assert "](" + COST_NAME in card
    path = release / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["cost"]["points"][0]["reused"] *= 2
    path.write_text(json.dumps(lock))
    assert COST_NAME not in render_card(AdapterRepo.open(release), None)


def test_without_a_measurement_there_is_no_section(release: Path) -> None:
    assert "## Cost" not in card_of(release, hub_id="")


def test_a_stranger_s_words_stay_in_their_sentence(release: Path) -> None:
    path = release / "zoo.lock.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cost": COST.model_dump(mode="json")}))
    card = render_card(AdapterRepo.open(release), None)
    assert r"on A machine \| with a name (cuda, bfloat16)" in card
    assert "| 4,096 | 10.0 ms | 214.8 ms | 21.5 |" in card


def test_the_same_numbers_give_the_same_picture(tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / name, COST, name="check")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert {OWN, QUIET} <= colours(tmp_path / "a")
    with Image.open(tmp_path / "a") as opened:
        assert opened.size[0] == 960
    assert "4,096 tokens 10.0 against 214.8 ms" in alternative(COST)


@pytest.mark.parametrize("tokens", ["", "x", "0", "16,-1"])
def test_lengths_that_are_none(release: Path, tokens: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", str(release), "--tokens", tokens]) == 2
    assert "no lengths" in capsys.readouterr().err


def test_a_context_that_does_not_fit(
    release: Path, tiny_base: BaseModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cost", str(release), "--base", str(tiny_base.folder), "--tokens", "2048"]) == 2
    assert "takes 2,048 tokens" in capsys.readouterr().err


def test_a_plain_lora_switches_to_nothing(
    tiny_base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.conftest import build_adapter

    lora = build_adapter(tiny_base, tmp_path / "lora")
    assert run(["cost", str(lora), "--base", str(tiny_base.folder)]) == 2
    assert "no invocation" in capsys.readouterr().err


def test_a_folder_beside_the_adapter_is_not_its_base(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who made the adapter may have put it there: elsewhere in zoo such a name is the Hub's alone."""
    from tests.conftest import build_adapter

    lora = build_adapter(tiny_base, tmp_path / "lora")
    config = json.loads((lora / "adapter_config.json").read_text())
    name = tiny_base.folder.name
    (lora / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": name}))
    monkeypatch.chdir(tiny_base.folder.parent)
    assert run(["cost", str(lora)]) == 2
    assert f"no base model '{name}'" in capsys.readouterr().err
