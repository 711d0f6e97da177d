"""train-7: how many steps a recovery takes to 0.97 of its teacher's metric, and a training from nothing.

For each task a LoRA is the teacher: the first that `tests.benchmarks.real_tasks` makes of it. Three arms
train the same modules of one model, with the same rank, batch, order of samples and optimiser:

scratch  an aLoRA from nothing, cross-entropy on the real data's answers
real     the relabelled LoRA, calibrated and then distilled on the real data's prompts
auto     the same on data that were made: `zoo convert --recover auto` with a few sample requests

Every arm is run with each of its learning rates, and the one counts that reaches the target first. Whether
it has is read on held-out samples that no arm trains on; the final metric is of the weights that are best on
real validation samples, on the held-out ones. The training from nothing runs three times as long. An arm
that never reaches the target counts as one step more than it ran. A calibrated start that is there already
counts as one step; since a calibration is no step, what it took in seconds is said beside what a step takes.
A task on which neither the training from nothing nor a recovery reaches the target is out of an aLoRA's reach
here: it has no ratio, and is named in the record.
Work is kept, arm by arm: a run that was killed goes on.

Run: python -m tests.benchmarks.train_recovery [--task NAME …] [--device cuda] [--dtype bfloat16]
     --quick   the demo's LoRA and a part of its data, one learning rate, for one core; records no evidence
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from tests.benchmarks.evidence import record
from tests.benchmarks.recovery_ground import DEMO, SAMPLES, WORK, Ground, How, prepared
from tests.tasks.task import TASKS
from zoo.adapter import WEIGHTS_NAME
from zoo.evaluation.intervals import Interval, of_difference, of_mean
from zoo.provenance import sha256_bytes, sha256_file
from zoo.training.calibration import take
from zoo.training.course import Look, Optimised
from zoo.training.initial import initialise
from zoo.training.optimise import Recipe, Task, optimise
from zoo.training.prefix import answer_logits, answer_loss

if TYPE_CHECKING:
    from torch import Tensor

TARGET, FEWER, WITHIN = 0.97, 3.0, 0.03
TASKS_IN_REACH = 4  # at least
ARMS = ("scratch", "real", "auto")


def ran(ground: Ground, arm: str, rate: float, target: float) -> dict[str, Any]:
    """One arm with one learning rate: what of it counts. It is kept beside the work, and read if it is there.

    Returns:
        The steps to the target, whether it was reached, the best score, seconds a step, and per held-out
        sample 1 or 0.
    """
    teacher = sha256_file(ground.race.lora / WEIGHTS_NAME)
    depends = {key: value for key, value in asdict(ground.how).items() if key not in _free(arm)}
    # a training from nothing takes nothing of its start
    start = [] if arm == "scratch" else [ground.starts[arm].sha256]
    said = json.dumps([depends, arm, rate, teacher, *start], sort_keys=True).encode()
    path = ground.race.folder / f"{arm}-{rate:g}-{sha256_bytes(said)[:8]}.json"
    if not path.is_file():
        begin = time.monotonic()
        done, right, seconds = run(ground, arm, rate)
        steps, reached = steps_to(done, target, ground.steps(arm))
        kept = {
            "steps": steps, "reached": reached, "best": done.best_score, "best_step": done.best_step,
            "seconds_a_step": seconds, "right": right, "looks": [list(look) for look in done.looks],
        }  # fmt: skip
        path.write_text(json.dumps(kept), encoding="utf-8")
        print(f"{arm} at {rate:g}: {steps} steps, {time.monotonic() - begin:.0f} s", flush=True)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _free(arm: str) -> set[str]:
    """What an arm does not depend on: it stays measured where that changes."""
    others = {"fresh", "calibrated"}
    return others | ({"recovery", "invented", "rows"} if arm == "scratch" else {"steps"})


def run(ground: Ground, arm: str, rate: float) -> tuple[Optimised, list[float], float]:
    """One arm with one rate; whether its best weights answer each held-out sample rightly; seconds a step."""
    how, store, looked = ground.how, ground.stores[arm], 0.0
    take(ground.model, ground.starts[arm].weights)
    if arm == "scratch":
        initialise(ground.model, "kaiming", seed=0, shared_a=None)

    def look() -> Look:
        nonlocal looked
        begin = time.monotonic()
        chosen, metric = (_mean(ground.right(ground.stores[name])) for name in ("seen", "unseen"))
        looked += time.monotonic() - begin
        return Look(rank=(chosen,), values={"metric": metric, "validation": chosen})

    task = Task(
        parameters=ground.trained(),
        samples=len(store.samples),
        tokens=[len(sample.answer) for sample in store.samples],
        loss=_loss(ground, arm),
        score=look,
        identity={},
    )
    recipe = Recipe(
        steps=ground.steps(arm), batch=how.batch, micro_batch=how.batch, learning_rate=rate, warmup=4,
        decay="constant", check_every=how.every if ground.options else how.every_open,
    )  # fmt: skip
    begin = time.monotonic()
    done = optimise(task, recipe, label=f"{ground.race.name}, {arm}, {rate:g}", progress=ground.progress)
    seconds = (time.monotonic() - begin - looked) / len(done.losses)
    return done, ground.right(ground.stores["unseen"]), seconds


def _loss(ground: Ground, arm: str) -> "Callable[[Sequence[int]], Tensor]":
    import torch

    store = ground.stores[arm]
    if arm == "scratch":
        return lambda rows: answer_loss(store, rows)
    teacher = ground.teachers[arm]
    return lambda rows: teacher.divergence(rows, torch.cat(answer_logits(store, rows)))


def steps_to(done: Optimised, target: float, steps: int) -> tuple[int, bool]:
    """The first look at the target, and whether there was one; a start's own look counts as 1."""
    found = [step for step, values in done.looks if values["metric"] >= target]
    return (max(1, found[0]), True) if found else (steps + 1, False)


def measure(ground: Ground) -> dict[str, Any]:
    """All arms of a task."""
    target = TARGET * _mean(ground.lora)
    steps: dict[str, int] = {}
    value: dict[str, Any] = {
        "validation": len(ground.seen),
        "held_out": len(ground.unseen),
        "teacher": _shown(of_mean(ground.lora, ground.groups)),
        "relabelled": _shown(of_mean(ground.relabelled, ground.groups)),
    }
    final: dict[str, list[float]] = {}
    for arm in ARMS:
        tried = {rate: ran(ground, arm, rate, target) for rate in ground.rates(arm)}
        rate, first = min(tried.items(), key=lambda item: (item[1]["steps"], -item[1]["best"]))
        steps[arm], final[arm] = first["steps"], first["right"]
        value[arm] = {
            "steps": steps[arm],
            "reached": first["reached"],
            "rate": rate,
            "best_step": first["best_step"],
            "start_of_teacher": round(first["looks"][0][1]["metric"] / target * TARGET, 3),
            "held_out": _shown(of_mean(final[arm], ground.groups)),
            "calibration_seconds": round(ground.starts[arm].seconds, 1),
            "calibrated_on": ground.starts[arm].samples,
            "fitted": ground.starts[arm].fitted,
            "seconds_a_step": round(first["seconds_a_step"], 4),
            "steps_by_rate": {f"{one:g}": found["steps"] for one, found in tried.items()},
        }
    for arm in ("real", "auto"):
        value[f"fewer_{arm}"] = round(steps["scratch"] / steps[arm], 1)
    value["auto_minus_real"] = _shown(of_difference(final["auto"], final["real"], ground.groups))
    return value


def measured(name: str, how: How) -> dict[str, Any]:
    """A task's value; kept beside its work, so that tasks may be measured by a process each."""
    said = json.dumps(asdict(how), sort_keys=True).encode()
    path = WORK / f"{name}-{sha256_bytes(said)[:8]}.json"
    if not path.is_file():
        value = measure(Ground(prepared(name, how, _told), how, _told))
        path.write_text(json.dumps(value), encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def met(values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Every task in reach recovers in a third of the steps; made data are as good as real ones on all."""
    reachable = [value for name, value in values.items() if name not in beyond(values)]
    return (
        len(reachable) >= TASKS_IN_REACH
        and all(value["real"]["reached"] and value["fewer_real"] >= FEWER for value in reachable)
        and all(value["auto_minus_real"]["value"] >= -WITHIN for value in values.values())
    )


def beyond(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The tasks on which no arm that learns from real data reaches the target."""
    return [
        name
        for name, value in values.items()
        if not (value["scratch"]["reached"] or value["real"]["reached"])
    ]


def _shown(found: Interval) -> dict[str, Any]:
    return {"value": round(found.value, 3), "interval_95": [round(found.low, 3), round(found.high, 3)]}


def _mean(right: Sequence[float]) -> float:
    return sum(right) / len(right)


def _listed(rates: Sequence[float]) -> str:
    return ", ".join(f"{rate:g}" for rate in rates)


def _told(stage: str, *, done: int, total: int, note: str = "") -> None:
    if done == total or done % 20 == 0:
        print(f"{stage} {done}/{total}  {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure recovery against training from nothing.")
    names = [DEMO, *(task.name for task in TASKS)]
    parser.add_argument("--task", action="append", choices=names, help="one alone; may be repeated")
    parser.add_argument("--device", default="")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    how = How(device=options.device or ("cpu" if options.quick else "cuda"), dtype=options.dtype)
    tasks = options.task or [task.name for task in TASKS]
    if options.quick:
        tasks = options.task or [DEMO]
        how = replace(
            how, steps=40, recovery=40, batch=8, fresh=(1e-3,), calibrated=(3e-4,), invented=32, rows=24,
            validation=48, held_out=60, share=0.4, sizes=(120, 60),
        )  # fmt: skip
    values = {}
    for name in tasks:
        values[name] = measured(name, how)
        print(json.dumps({name: values[name]}, indent=2), flush=True)
    if options.quick or options.task:
        return
    record(
        "train",
        "train-7",
        "Steps from nothing divided by steps of a recovery, to 0.97 of the teacher's metric; made data "
        "against real data by the final metric",
        values,
        f">= {FEWER:g} on every task that an aLoRA reaches it on, {TASKS_IN_REACH} at least; auto within "
        f"{WITHIN} of real data",
        met(values),
        "an aLoRA from nothing, same model, modules, rank, batch and order, in the same run",
        f"python -m tests.benchmarks.train_recovery --device {how.device} --dtype {how.dtype}",
        note=f"reached by no arm: {', '.join(beyond(values)) or 'none'}; learning rates tried: "
        f"{_listed(how.fresh)} from nothing, {_listed(how.calibrated)} of a recovery; each arm's fastest "
        f"counts; looks every {how.every} steps, every {how.every_open} of an open task; {SAMPLES} sample "
        "requests shown to the invention",
    )


if __name__ == "__main__":
    main()
