"""task-…: real tasks on SmolLM2: base, LoRA, aLoRA from scratch, aLoRA recovered from the LoRA.

Everything is made by the functions behind `zoo train` and `zoo convert --recover`, on data whose text is in
one part only, and measured on held-out samples (`tests/tasks/arms.py`). Work is kept in build/tasks: a run
that was killed goes on, a finished task is only measured again when it is deleted.

Run: python -m tests.benchmarks.real_tasks [--task NAME] [--device cuda] [--dtype bfloat16] [--seeds 3]
     --quick   a part of the data and one seed, about nine minutes of one core for `satire`: it shows that
               all of it runs, and is too little to learn from; it prints, and records no evidence
"""

import argparse
import importlib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.evidence import ROOT, record
from tests.tasks.arms import ARMS, How, make, scores
from tests.tasks.task import TASKS, Project, Task, task_named, write_project
from zoo.adapter import LOCK_NAME, RELEASE_NAME
from zoo.evaluation.intervals import Interval, of_difference, of_mean
from zoo.models import Dtype
from zoo.provenance import sha256_bytes
from zoo.specs.document import read_yaml
from zoo.specs.lock import Lock
from zoo.specs.release import ReleaseSpec
from zoo.training.dataset import read_dataset

WORK = ROOT / "build" / "tasks"
MARGIN = 0.05  # by how much the recovered aLoRA may be worse than its LoRA
QUICK: dict[str, Any] = {"steps": 80, "recovery": 20, "batch": 4, "verdict": False}
QUICK_SIZES = (320, 80)  # rows to train on, rows held out


def measure(
    task: Task, how: How, seeds: Sequence[int], *, base: str, sizes: tuple[int, int]
) -> dict[str, Any]:
    """Makes and measures one task.

    Args:
        task: which.
        how: how much and where.
        seeds: of the trainings of each kind, the data being the same.
        base: as in `write_project`.
        sizes: as in `write_project`.

    Returns:
        The record's value.
    """
    work = work_of(task, how, base=base, sizes=sizes)
    project = project_of(task, work, base=base, sizes=sizes)
    per_seed: list[dict[str, list[float]]] = []
    verdicts: list[str] = []
    for seed in seeds:
        folder = work / f"seed-{seed}"
        make(project, folder, how, seed, progress=_told(f"{task.name}, seed {seed}"))
        per_seed.append({arm: scores(project, folder, arm, how) for arm in ARMS})
        verdicts.append(verdict_of(folder / "recovered"))
    return {**summary(project, per_seed), "verdicts": verdicts}


def verdict_of(recovered: Path) -> str:
    """What the conversion itself said of its recovery; see `zoo.evaluation.verdict`."""
    lock = Lock.model_validate_json((recovered / LOCK_NAME).read_bytes())
    return lock.behaviour.comparison.verdict if lock.behaviour.comparison else ""


def summary(project: Project, per_seed: Sequence[dict[str, list[float]]]) -> dict[str, Any]:
    """Means over seeds with intervals over groups of held-out samples, and the differences that matter."""
    samples = read_dataset(project.held_out, values=True).samples
    groups = [sample.group for sample in samples]
    mean = {
        arm: [sum(column) / len(per_seed) for column in zip(*(one[arm] for one in per_seed), strict=True)]
        for arm in ARMS
    }
    answers = Counter(json.dumps(sample.answer) for sample in samples)
    return {
        "samples": len(samples),
        "groups": len(set(groups)),
        "trained_on": len(read_dataset(project.train, values=True).samples),
        "seeds": len(per_seed),
        "trivial": round(answers.most_common(1)[0][1] / len(samples), 3),
        **{arm: _shown(of_mean(values, groups)) for arm, values in mean.items()},
        "by_seed": {
            arm: [round(sum(one[arm]) / len(samples), 3) for one in per_seed] for arm in ("lora", "recovered")
        },
        "recovered_minus_lora": _shown(of_difference(mean["recovered"], mean["lora"], groups)),
        "recovered_minus_scratch": _shown(of_difference(mean["recovered"], mean["scratch"], groups)),
    }


def met(value: dict[str, Any]) -> bool:
    """The LoRA has learnt the task, and the recovered aLoRA is as good within the margin."""
    low = value["lora"]["interval_95"][0]
    learnt: bool = low > max(value["trivial"], value["base"]["value"])
    return learnt and value["recovered_minus_lora"]["value"] >= -MARGIN


def work_of(task: Task, how: How, *, base: str = "", sizes: tuple[int, int] = (0, 0)) -> Path:
    """Where a task's project and adapters are; arguments as `measure`."""
    said = json.dumps([asdict(how), base, sizes], sort_keys=True).encode()
    return WORK / f"{task.name}-{sha256_bytes(said)[:8]}"


def project_of(task: Task, work: Path, *, base: str = "", sizes: tuple[int, int] = (0, 0)) -> Project:
    """The task's project, made if it is not there; arguments as `measure`."""
    folder = work / "project"
    if not (folder / "data" / "asked.jsonl").is_file():
        return write_project(task, folder, base=base, sizes=sizes)
    spec = read_yaml(folder / RELEASE_NAME, ReleaseSpec, code="ZM001")
    return Project(task=task, folder=folder, invocation=spec.invocation.text, base=base)


def how_of(task: Task, *, device: str, dtype: Dtype) -> How:
    """How a task is made when it is recorded."""
    return How(steps=task.steps, recovery=task.steps, device=device, dtype=dtype)


def _shown(found: Interval) -> dict[str, Any]:
    return {"value": round(found.value, 3), "interval_95": [round(found.low, 3), round(found.high, 3)]}


def _told(label: str) -> Any:
    begin = last = time.monotonic()

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        nonlocal last
        if done == total or time.monotonic() - last > 20:
            last = time.monotonic()
            print(f"{label}: {last - begin:.0f} s  {stage} {done}/{total}  {note}", flush=True)

    return told


def _record(task: Task, value: dict[str, Any], command: str, how: How) -> None:
    if how.device.startswith("cuda"):
        importlib.import_module("torch")  # kept scores need none of it; with it the record names the GPU
    record(
        "tasks",
        f"task-{task.name}",
        f"{task.does} SmolLM2-135M, share of right answers on held-out samples",
        value,
        f"LoRA better than base and commonest answer; recovered at most {MARGIN} under the LoRA",
        met(value),
        "the LoRA of the same rank, data, steps and seeds in the same run",
        command,
        note=f"data: {task.source}; licence: {task.license}; {how.steps} steps of {how.batch}, rank "
        f"{how.rank}, recovery calibrated, {how.recovery} steps at most, base in {how.dtype}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the real tasks.")
    parser.add_argument("--task", choices=[task.name for task in TASKS], help="one alone")
    parser.add_argument("--base", default="", help="org/name@revision or a folder; SmolLM2 if not")
    parser.add_argument("--device", help="cuda; with --quick cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one-seed", type=int, help="of the seeds this one; a process each may run at once")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    device = options.device or ("cpu" if options.quick else "cuda")
    where: dict[str, Any] = {"device": device, "dtype": options.dtype}
    for task in [task_named(options.task)] if options.task else TASKS:
        if options.quick:
            how, seeds, sizes = How(**QUICK, **where), [0], QUICK_SIZES
        else:
            how, seeds, sizes = how_of(task, **where), [*range(options.seeds)], (0, 0)
        if options.one_seed is not None:
            seeds = [options.one_seed]
        value = measure(task, how, seeds, base=options.base, sizes=sizes)
        if options.quick or options.base or options.one_seed is not None:
            print(json.dumps({"task": task.name, "met": met(value), **value}, indent=2))
            continue
        given = f" --device {device} --dtype {options.dtype} --seeds {options.seeds}"
        _record(task, value, f"python -m tests.benchmarks.real_tasks --task {task.name}{given}", how)


if __name__ == "__main__":
    main()
