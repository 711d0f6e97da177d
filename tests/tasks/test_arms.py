"""The measurement of the real tasks, on a model of two layers: what is compared, and what would be seen."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.real_tasks import met, summary, verdict_of
from tests.tasks import arms
from tests.tasks.arms import ARMS, How, make, scores
from tests.tasks.task import Project, task_named, write_project
from zoo.adapter import LOCK_NAME, WEIGHTS_NAME
from zoo.models import BaseModel
from zoo.specs.lock import Lock
from zoo.training.dataset import read_dataset

HOW = How(steps=3, recovery=2, batch=4, rank=4)


def read_lock(folder: Path) -> Lock:
    return Lock.model_validate_json((folder / LOCK_NAME).read_bytes())


def made(name: str, base: BaseModel, folder: Path) -> Project:
    project = write_project(task_named(name), folder / "project", base=str(base.folder), sizes=(20, 6))
    make(project, folder / "seed-0", HOW, seed=0)
    return project


@pytest.mark.parametrize("name", ["context-relevance", "proofreading"])
def test_every_arm_is_made_and_measured_once(name: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    project, folder = made(name, tiny_base, tmp_path), tmp_path / "seed-0"
    samples = read_dataset(project.held_out, values=True).samples

    found = {arm: scores(project, folder, arm, HOW) for arm in ARMS}

    assert all(len(column) == len(samples) for column in found.values())
    assert all(set(column) <= {0.0, 1.0} for column in found.values())
    configs = {
        arm: json.loads((folder / arm / "adapter_config.json").read_text()) for arm in ARMS if arm != "base"
    }
    activated = {arm for arm, config in configs.items() if config.get("alora_invocation_tokens")}
    assert activated == {"scratch", "relabelled", "recovered"}
    assert "o_proj" in configs["recovered"]["target_modules"]  # calibrated
    assert "o_proj" not in configs["relabelled"]["target_modules"]
    weights = {arm: (folder / arm / WEIGHTS_NAME).read_bytes() for arm in configs}
    assert weights["lora"] != weights["scratch"]
    locks = {arm: read_lock(folder / arm) for arm in ("scratch", "relabelled", "recovered")}
    assert {arm: lock.training and lock.training.method for arm, lock in locks.items()} == {
        "scratch": "supervised", "relabelled": None, "recovered": "distillation",
    }  # fmt: skip
    assert verdict_of(folder / "recovered") in ("equivalent", "undecided", "degraded", "re-reads")
    assert verdict_of(folder / "scratch") == ""  # nothing was recovered there
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    make(project, folder, HOW, seed=0)
    (folder / "lora.scores.json").write_text("[0.5]")
    assert scores(project, folder, "lora", HOW) == [0.5]  # read, not measured again
    assert before.keys() == dict.fromkeys(folder.rglob("*"), 0).keys()


def test_what_a_lora_reads_carries_it_everywhere_and_the_base_is_asked_in_words(
    tiny_base: BaseModel, tmp_path: Path
) -> None:
    project = write_project(
        task_named("satire"), tmp_path / "project", base=str(tiny_base.folder), sizes=(8, 4)
    )
    read = {arm: arms._encoded(project, tiny_base, arm)[0] for arm in ("base", "lora", "scratch")}

    assert not read["lora"].prefix
    assert read["lora"].lead == read["scratch"].prefix + read["scratch"].lead
    assert read["scratch"].prefix
    assert read["base"].prefix != read["scratch"].prefix
    assert read["base"].answer == read["scratch"].answer


def test_an_open_answer_is_right_when_its_json_is_equal() -> None:
    wanted = {"wrong": "recieve", "right": "receive"}

    assert arms._json('{"right": "receive", "wrong": "recieve"}') == wanted
    assert arms._json('{"right": "receive"') is None


def summarised(tiny_base: BaseModel, folder: Path, **columns: float) -> dict[str, object]:
    project = write_project(
        task_named("satire"), folder / "project", base=str(tiny_base.folder), sizes=(8, 200)
    )
    size = len(read_dataset(project.held_out, values=True).samples)
    one = {arm: [1.0] * round(share * size) for arm, share in columns.items()}
    return summary(project, [{arm: line + [0.0] * (size - len(line)) for arm, line in one.items()}])


def test_the_bar_wants_a_lora_that_has_learnt_and_a_recovery_close_to_it(
    tiny_base: BaseModel, tmp_path: Path
) -> None:
    same = {"base": 0.5, "scratch": 0.8, "relabelled": 0.6}
    good = summarised(tiny_base, tmp_path / "a", lora=0.8, recovered=0.79, **same)
    far = summarised(tiny_base, tmp_path / "b", lora=0.8, recovered=0.7, **same)
    unlearnt = summarised(tiny_base, tmp_path / "c", lora=0.52, recovered=0.52, **same)

    assert met(good)
    assert not met(far)
    assert not met(unlearnt)
    assert good["trivial"] == 0.5
    assert good["recovered_minus_lora"]["value"] == -0.01  # type: ignore[index]
