import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import sample
from zoo.bench import arms, running
from zoo.bench.arms import BY_NAME, chosen
from zoo.bench.comparison import Comparison, compare
from zoo.bench.job import Job
from zoo.bench.outcome import Outcome
from zoo.bench.process import on_one_gpu, run_arm
from zoo.bench.running import bench_training
from zoo.cli import run
from zoo.errors import UndecidedError, UsageError
from zoo.models import BaseModel


def lines(first: str = "yes", second: str = "no") -> list[dict[str, Any]]:
    """Prompts of different lengths, so that the others have to pad."""
    return [
        sample(f"the passage {'context ' * (group % 4)}{group} question {word}", answer, group=f"g{group}")
        for group in range(12)
        for word, answer in (("relevant", first), ("system", second))
    ]


@pytest.fixture(scope="module")
def job(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Job:
    data = tmp_path_factory.mktemp("bench") / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines()))
    return Job(
        data=str(data), base=str(tiny_base.folder), invocation=INVOCATION_TEXT, steps=4, rank=4, threads=1
    )


@pytest.fixture(scope="module")
def found(job: Job) -> Comparison:
    return bench_training(job, chosen("zoo,trainer"), required=True)


def test_the_trainer_is_given_the_same_training(found: Comparison) -> None:
    ours, other = (row.outcome for row in found.rows)
    assert [row.arm.name for row in found.rows] == ["zoo", "trainer"]
    assert other.start == ours.start != ""
    assert list(other.losses) == pytest.approx(list(ours.losses), rel=1e-5)
    assert ours.losses[0] != pytest.approx(ours.losses[-1], rel=1e-3)  # the control: other steps show
    assert [row.differs for row in found.rows] == ["", ""]
    assert found.exit_code == 0
    for outcome in (ours, other):
        assert outcome.seconds > 0
        assert outcome.steps == 4
        assert outcome.peak_mib > 100
        assert outcome.cuda_peak_mib is None


def test_one_evaluator_measures_all_on_the_held_out_samples(found: Comparison) -> None:
    assert found.samples > 0
    assert found.base is not None
    difference = found.rows[1].difference
    assert difference is not None
    assert difference.low <= 0 <= difference.high
    document = found.to_document()
    assert document["arms"]["trainer"]["metric"]["value"] == document["arms"]["zoo"]["metric"]["value"]
    text = "\n".join(found.lines())
    assert "PEFT + Trainer" in text
    assert f"{found.samples} held-out samples" in text


def test_an_arm_that_trains_something_else_is_flagged(job: Job, found: Comparison, tmp_path: Path) -> None:
    (tmp_path / "swapped.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines("no", "yes")))
    (folder := tmp_path / "trainer").mkdir()
    other = replace(job, data=str(tmp_path / "swapped.jsonl"))
    outcome = run_arm(BY_NAME["trainer"], other, other.plan(), folder)
    ours = found.rows[0].outcome
    assert outcome.start == ours.start
    flagged = compare(job, [(BY_NAME["zoo"], ours), (BY_NAME["trainer"], outcome)], {}, (), {})
    assert "its first loss is" in flagged.rows[1].differs
    assert flagged.exit_code == 1
    assert "trainer: not the same training" in "\n".join(flagged.lines())


def outcome(**changes: Any) -> Outcome:
    given: dict[str, Any] = {
        "seconds": 2.0, "cpu_seconds": 2.0, "peak_mib": 500.0, "cuda_peak_mib": None, "steps": 2,
        "losses": [1.0, 0.5], "start": "a", "versions": {},
    }  # fmt: skip
    return Outcome(**{**given, **changes})


def judged(other: Outcome, right: list[float], name: str = "trainer", dtype: Any = "float32") -> Comparison:
    answers = {"base": [0.0] * 40, "zoo": [1.0] * 40, name: right}
    pairs = [(BY_NAME["zoo"], outcome()), (BY_NAME[name], other)]
    return compare(
        Job(data="d", dtype=dtype), pairs, answers, [str(number) for number in range(40)], {"trl": "absent"}
    )


@pytest.mark.parametrize(
    ("other", "right", "said"),
    [
        (outcome(), 40, ""),
        (outcome(losses=[1.00009, 0.6]), 39, ""),
        (outcome(losses=[1.0002, 0.5]), 40, "first loss"),
        (outcome(losses=[float("nan"), 0.5]), 40, "first loss"),
        (outcome(start="b"), 40, "initial weights"),
        (outcome(steps=3), 40, "3 steps against 2"),
        (outcome(), 20, "its metric differs by -0.500"),
    ],
)
def test_what_makes_a_training_another(other: Outcome, right: int, said: str) -> None:
    row = judged(other, [1.0] * right + [0.0] * (40 - right)).rows[1]
    assert said in row.differs
    assert bool(said) is bool(row.differs)


def test_half_precision_rounds_more_and_no_more_than_that() -> None:
    assert not judged(outcome(losses=[1.01, 0.5]), [1.0] * 40, dtype="bfloat16").rows[1].differs
    assert judged(outcome(losses=[1.03, 0.5]), [1.0] * 40, dtype="bfloat16").rows[1].differs


def test_a_program_with_its_own_ways_is_told_and_is_no_failure() -> None:
    found = judged(outcome(start="", losses=[2.0, 1.0], seconds=9.0), [1.0] * 40, "mellea")
    assert "alpha 32" in found.rows[1].differs
    assert found.exit_code == 0
    assert found.to_document()["arms"]["mellea"]["times_ours"] == 4.5
    assert "trl: not run: absent" in found.lines()


def test_what_is_not_installed_is_listed_or_required(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arms, "find_spec", lambda name: None if name == "trl" else object())
    monkeypatch.setattr(running, "run_arm", lambda *a, **k: outcome())
    monkeypatch.setattr(running, "_measured", lambda *a: {n: [1.0] * 80 for n in ("base", *BY_NAME)})
    monkeypatch.setattr(running, "compare", lambda job, outcomes, right, groups, left_out: left_out)
    left_out: Any = bench_training(job, chosen(""))
    assert list(left_out) == ["trl", "mellea"]
    assert "alora-zoo[bench]" in left_out["trl"]
    command = ["bench", "train", job.data, "--invocation", INVOCATION_TEXT, "--base", job.base, "--quiet"]
    assert run([*command, "--arms", "trl"]) == 3
    assert "not installed: trl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"), [([], "is named"), (["--mellea-python", "/nowhere/python"], "/nowhere/python")]
)
def test_what_is_required_is_looked_for_before_anything_is_trained(
    job: Job,
    options: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(running, "run_arm", lambda *a, **k: ran.append(a))
    command = ["bench", "train", job.data, "--invocation", INVOCATION_TEXT, "--base", job.base, "--quiet"]
    assert run([*command, "--arms", "mellea", *options]) == 3
    assert said in capsys.readouterr().err
    assert not ran


def test_a_failing_arm_says_why(job: Job, tmp_path: Path) -> None:
    broken = replace(job, base=str(tmp_path / "nowhere"))
    (folder := tmp_path / "zoo").mkdir()
    with pytest.raises(UndecidedError, match=r"the arm zoo failed.*nowhere"):
        run_arm(BY_NAME["zoo"], broken, job.plan(), folder)


@pytest.mark.parametrize(
    ("options", "said"), [(["--arms", "axolotl"], "no arm"), (["--batch", "3"], "a time")]
)
def test_wrong_use(job: Job, options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "train", job.data, "--micro-batch", "2", *options]
    assert run(command) == 2
    assert said in capsys.readouterr().err


def test_a_batch_must_be_whole_micro_batches(job: Job) -> None:
    with pytest.raises(UsageError, match="at a time"):
        bench_training(replace(job, batch=3, micro_batch=2), chosen("zoo"))


def test_the_job_survives_its_file(job: Job, tmp_path: Path) -> None:
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json") == job


@pytest.mark.parametrize(
    ("device", "seen", "wanted"),
    [
        ("cuda", "", "0"),
        ("cuda:1", "", "1"),
        ("cuda:1", "4,6", "6"),
        ("cuda", "4,6", "4"),
        ("cpu", "4,6", "4,6"),
    ],
)
def test_every_arm_sees_one_gpu(device: str, seen: str, wanted: str) -> None:
    given, environment = on_one_gpu(Job(data="d", device=device), {"CUDA_VISIBLE_DEVICES": seen})
    assert environment["CUDA_VISIBLE_DEVICES"] == wanted
    assert given.device == device.partition(":")[0]
