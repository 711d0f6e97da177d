"""Arms as processes: started, listened to, and their end understood."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.bench.arms import Arm
from zoo.bench.job import Job
from zoo.bench.outcome import Outcome
from zoo.errors import UndecidedError
from zoo.progress import Progress, silent

if TYPE_CHECKING:
    from zoo.training.plan import TrainingPlan


def run_arm(
    arm: Arm, job: Job, plan: "TrainingPlan", folder: Path, *, python: str = "", progress: Progress = silent
) -> Outcome:
    """Runs one arm to its end in a process of its own.

    Args:
        arm: which.
        job: what it is given.
        plan: the job's, for an arm that cannot make it itself.
        folder: empty; takes what the arm writes.
        python: of the environment of an arm that has its own.
        progress: told about each step.

    Raises:
        UndecidedError: the arm failed; with the last line that it said.
    """
    job, environment = on_one_gpu(job, os.environ)
    job.write(folder / "job.json")
    if arm.name == "mellea":
        command = [python, *_for_mellea(job, plan, folder)]
    else:
        command = [
            sys.executable,
            "-m",
            "zoo.bench.training",
            arm.name,
            str(folder / "job.json"),
            str(folder),
        ]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        ) as process:
            try:
                _listen(process, arm.name, progress)
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            # what an exception says begins a line; its hint and the frames above are indented
            last = [line for line in said.read().splitlines() if line.strip() and line[0] != " "][-1:]
            raise UndecidedError(
                f"the arm {arm.name} failed ({process.returncode}): {(last or ['it said nothing'])[0][:300]}",
                hint="leave it out with --arms, or run it with a smaller --batch",
            )
    return Outcome.read(folder)


def on_one_gpu(job: Job, environment: Mapping[str, str]) -> tuple[Job, dict[str, str]]:
    """The job and the environment of a process that sees the job's GPU alone.

    Where it sees several, Trainer puts a copy of the model on each and divides every batch among them.
    """
    kind, _, number = job.device.partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        return job, dict(environment)
    seen = [one for one in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    index = int(number or 0)
    chosen = seen[index] if index < len(seen) else str(index)
    return replace(job, device="cuda"), {**environment, "CUDA_VISIBLE_DEVICES": chosen}


def _listen(process: "subprocess.Popen[str]", name: str, progress: Progress) -> None:
    for line in process.stdout or ():
        try:
            state = json.loads(line)
            progress(name, done=state["done"], total=state["total"], note=state["note"])
        except (ValueError, KeyError, TypeError):
            continue  # what a library prints


def _for_mellea(job: Job, plan: "TrainingPlan", folder: Path) -> Sequence[str]:
    """The script's arguments; its prompts are text, so those are decoded from the ids that others get."""
    from zoo.prompts import Prompter

    tokenizer = Prompter(plan.base).tokenizer
    settings, recipe = plan.settings, plan.settings.recipe
    samples = folder / "samples.jsonl"
    with samples.open("w", encoding="utf-8") as file:
        for one in plan.parts.train:
            parts = (one.prefix + one.lead, one.answer)
            texts = [tokenizer.decode(list(ids), skip_special_tokens=False) for ids in parts]
            file.write(json.dumps({"input": texts[0], "target": texts[1]}) + "\n")
    trained = int(0.8 * len(plan.parts.train))  # its own split of what it is given
    given = {
        "base": str(plan.base.folder),
        "invocation": plan.invocation.text,
        "rank": settings.rank,
        "alpha": settings.alpha,
        "targets": list(settings.targets),
        "epochs": max(1, round(recipe.steps * recipe.batch / max(1, trained))),
        "learning_rate": recipe.learning_rate,
        "micro_batch": recipe.micro_batch,
        "accumulation": max(1, recipe.batch // recipe.micro_batch),
        "max_tokens": job.max_tokens,
        "device": "cpu" if job.device == "cpu" else "cuda",
        "threads": job.threads,
    }
    (folder / "settings.json").write_text(json.dumps(given), encoding="utf-8")
    script = Path(__file__).with_name("mellea_trainer.py")
    return [str(script), str(samples), str(folder / "settings.json"), str(folder)]
