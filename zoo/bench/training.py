"""One arm in a process of its own: `python -m zoo.bench.training ARM JOB FOLDER`.

What is imported and tokenised is not timed: it is the same for all. Lines of JSON on stdout tell how far
it is.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bench.job import Job
from zoo.bench.outcome import Outcome, digest, peak_mib, save_weights
from zoo.provenance import package_versions

if TYPE_CHECKING:
    from peft import PeftModel

    from zoo.training.plan import TrainingPlan

Told = Callable[[int, int, str], None]
PACKAGES = ("alora-zoo", "torch", "transformers", "peft", "accelerate", "trl")


def run(arm: str, job: Job, folder: Path, told: Told) -> Outcome:
    """Trains, writes the weights into a folder and measures both.

    Args:
        arm: `zoo`, or one of the arms of `zoo.bench.trainers`.
        job: what.
        folder: takes the weights.
        told: steps done, steps in all, a remark.
    """
    import torch
    from peft.utils import get_peft_model_state_dict

    from zoo.bench import trainers
    from zoo.training.train import new_adapter

    if job.threads:
        torch.set_num_threads(job.threads)
    plan = job.plan()
    steps: Callable[..., Sequence[float]] = ours if arm == "zoo" else trainers.prepared(arm)
    cuda = torch.device(job.device).type == "cuda"
    if cuda:
        torch.zeros(1, device=job.device)  # the driver's own start is nobody's
        torch.cuda.reset_peak_memory_stats(job.device)
    begin, cpu = time.perf_counter(), time.process_time()
    model = new_adapter(plan, device=job.device, dtype=job.dtype)
    start = get_peft_model_state_dict(model)
    first = {name: tensor.clone() for name, tensor in start.items()}
    losses = steps(model, plan, job, folder, told)
    save_weights(get_peft_model_state_dict(model), folder)
    return Outcome(
        seconds=time.perf_counter() - begin,
        cpu_seconds=time.process_time() - cpu,
        peak_mib=peak_mib(),
        cuda_peak_mib=torch.cuda.max_memory_allocated(job.device) / 2**20 if cuda else None,
        steps=len(losses),
        losses=losses,
        start=digest(first),
        versions={name: value for name, value in package_versions(PACKAGES).items() if value},
    )


def ours(model: "PeftModel", plan: "TrainingPlan", job: Job, folder: Path, told: Told) -> Sequence[float]:
    """The engine and the loop of `zoo train`, without looks at validation data: no other arm has any."""
    from itertools import count

    from zoo.training.deal import Deal
    from zoo.training.optimise import Task, optimise
    from zoo.training.prefix import PrefixStore, answer_loss

    def progress(stage: str, *, done: int, total: int, note: str = "") -> None:
        told(done if stage == "train" else 0, job.steps, "" if stage == "train" else note)

    samples = plan.parts.train
    store = PrefixStore(model, samples)
    store.fill(progress)
    looks = count()
    task = Task(
        parameters={name: p for name, p in model.named_parameters() if p.requires_grad},
        samples=len(samples),
        tokens=[len(sample.answer) for sample in samples],
        loss=lambda rows: answer_loss(store, rows),
        prefetch=store.prefetch,
        score=lambda: float(next(looks)),  # the last weights are kept, as the other arms keep them
        identity={},
        deal=Deal.of([sample.prefix for sample in samples]),
    )
    return list(optimise(task, plan.settings.recipe, progress=progress).losses)


def main(arguments: Sequence[str]) -> None:
    """Runs the arm that the arguments name and writes what came of it."""
    arm, job, folder = arguments[0], Job.read(Path(arguments[1])), Path(arguments[2])
    stream = sys.stdout

    def told(done: int, total: int, note: str = "") -> None:
        stream.write(json.dumps({"done": done, "total": total, "note": note}) + "\n")
        stream.flush()

    with redirect_stdout(sys.stderr):  # the libraries' own tables
        found: Any = run(arm, job, folder, told)
    found.write(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
