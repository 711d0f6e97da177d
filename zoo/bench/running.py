"""A whole comparison: every arm in turn in a process of its own, then all adapters by one evaluator."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zoo.bench.arms import Arm
from zoo.bench.comparison import Comparison, compare
from zoo.bench.job import Job
from zoo.bench.measuring import MEASURED_NAME
from zoo.bench.outcome import Outcome
from zoo.bench.process import run_arm
from zoo.errors import MissingExtraError, UndecidedError, UsageError
from zoo.progress import Progress, silent


def bench_training(
    job: Job,
    arms: Sequence[Arm],
    *,
    mellea_python: str = "",
    required: bool = False,
    progress: Progress = silent,
) -> Comparison:
    """Trains the same adapter with several programs and compares time, memory and what they learnt.

    Args:
        job: what.
        arms: which programs, ours first.
        mellea_python: of an environment in which mellea's trainer is installed.
        required: an arm that cannot run here is an error; else it is listed as not run.
        progress: told about each arm.

    Raises:
        MissingExtraError: an arm is required and its package missing.
        UsageError: a batch that is no multiple of the micro-batch: other trainers could not do its steps.
        UndecidedError: an arm failed.
        ZooError: see `plan_training`.
    """
    if job.batch % job.micro_batch:
        raise UsageError(
            f"a batch of {job.batch} cannot be run {job.micro_batch} at a time by every program",
            hint="--micro-batch must divide --batch",
        )
    absent = {arm: why for arm in arms if (why := _absent(arm, mellea_python))}
    for arm, why in absent.items() if required else ():  # before anything is trained
        raise MissingExtraError(f"the arm {arm.name} cannot run here: {why}", hint=arm.install)
    left_out = {arm.name: f"{why}; {arm.install}" for arm, why in absent.items()}
    plan = job.plan()
    job = replace(job, base=str(plan.base.folder))  # found once: the processes are given its folder
    outcomes: list[tuple[Arm, Outcome]] = []
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as name:
        root = Path(name)
        for arm in (arm for arm in arms if arm not in absent):
            (folder := root / arm.name).mkdir()
            outcomes.append((arm, run_arm(arm, job, plan, folder, python=mellea_python, progress=progress)))
        progress("held-out samples", done=0, total=1)
        right = _measured(job, root, [arm.name for arm, _ in outcomes]) if plan.parts.held_out else {}
        progress("held-out samples", done=1, total=1)
    groups = [sample.group or str(sample.line) for sample in plan.parts.held_out]
    return compare(job, outcomes, right, groups, left_out)


def _absent(arm: Arm, mellea_python: str) -> str:
    if arm.name == "mellea":
        if not mellea_python:
            return "no environment of its own is named"
        return "" if shutil.which(mellea_python) else f"there is no program {mellea_python}"
    missing = arm.missing()
    return f"not installed: {missing}" if missing else ""


def _measured(job: Job, root: Path, names: Sequence[str]) -> dict[str, list[float]]:
    job.write(root / "job.json")
    command = [sys.executable, "-m", "zoo.bench.measuring", str(root / "job.json"), str(root / MEASURED_NAME)]
    done = subprocess.run(
        [*command, *(str(root / name) for name in names)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise UndecidedError(f"the adapters could not be measured: {(last or [''])[0][:300]}")
    found: dict[str, list[float]] = json.loads((root / MEASURED_NAME).read_text(encoding="utf-8"))
    return found
