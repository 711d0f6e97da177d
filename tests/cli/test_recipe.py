"""`zoo train --recipe`: what is rarely changed of how weights are optimised."""

import json
from pathlib import Path

import pytest

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import task
from zoo.cli import run
from zoo.cli.recipe_options import read
from zoo.errors import UsageError
from zoo.models import BaseModel
from zoo.training.optimise import Recipe


def test_every_setting_is_one_of_the_recipe() -> None:
    given = read(
        ["warmup=0", "decay=constant", "clip=0.5", "weight_decay=0.01", "check_every=5", "save_every=7"]
    )
    assert Recipe(steps=9, **given) == Recipe(
        steps=9, warmup=0, decay="constant", clip=0.5, weight_decay=0.01, check_every=5, save_every=7
    )
    assert read(None) == {}


@pytest.mark.parametrize(
    "given",
    [
        ["warmup"], ["warmup=-1"], ["warmup=1.5"], ["decay=linear"], ["clip=0"], ["clip=nan"], ["clip=inf"],
        ["weight_decay=-1"], ["check_every=0"], ["steps=3"], ["=3"], ["clip=1", "clip=2"],
    ],
)  # fmt: skip
def test_what_it_cannot_be_is_refused(given: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        read(given)
    assert caught.value.code == "ZD006"


def test_it_decides_the_training_and_is_recorded(tiny_base: BaseModel, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in task(8)))
    asked = ["train", str(data), "--base", str(tiny_base.folder), "--invocation", INVOCATION_TEXT, "--quiet"]
    asked += ["--steps", "3", "--batch", "2", "--rank", "2"]
    assert run([*asked, str(tmp_path / "one")]) == 0
    assert run([*asked, str(tmp_path / "two"), "--recipe", "warmup=0", "--recipe", "decay=constant"]) == 0
    one, two = (
        json.loads((tmp_path / name / "zoo.lock.json").read_text())["training"] for name in ("one", "two")
    )
    assert two["settings"]["recipe"] == one["settings"]["recipe"] | {"warmup": 0, "decay": "constant"}
    assert one["final_loss"] != two["final_loss"]
