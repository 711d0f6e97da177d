"""train-7: how many steps a recovery takes to 0.97 of its teacher's metric, and a training from nothing.

For each task a LoRA is the teacher: the first that `tests.benchmarks.real_tasks` makes of it. Three arms
start on one model, with the same rank, target modules, batch, order of samples and optimiser, and look at
the same real validation samples:

scratch  an aLoRA from nothing, cross-entropy on the real data's answers
real     the relabelled LoRA, distilled on the real data's prompts
auto     the same, distilled on data that were made: `zoo convert --recover auto` with a few sample requests

Every arm is run with every learning rate of RATES, and the one counts that reaches the target first. The
final metric is that of the best step by validation, on held-out samples that no arm has seen. The training
from nothing runs twice as long. An arm that never reaches the target counts as one step more than it ran:
the ratio is then a lower bound. Work is kept, arm by arm: a run that was killed goes on.

Run: python -m tests.benchmarks.train_recovery [--task NAME …] [--device cuda] [--dtype bfloat16]
     --quick   the demo's LoRA and a part of its data, one learning rate, for one core; records no evidence
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import real_tasks
from tests.benchmarks.evidence import ROOT, record
from tests.demo import relevance_data
from tests.tasks.arms import trained
from tests.tasks.task import TASKS, task_named
from zoo.adapter import IO_NAME, WEIGHTS_NAME
from zoo.conversion import convert
from zoo.evaluation.answers import answer_all, choices
from zoo.evaluation.intervals import Interval, of_difference, of_mean
from zoo.models import DEFAULT, BaseModel, Dtype, load_model, resolve
from zoo.peft_model import attach
from zoo.progress import Progress
from zoo.prompts import Invocation, Prompter
from zoo.provenance import sha256_bytes, sha256_file
from zoo.specs.release import Position
from zoo.training.contract import Contract
from zoo.training.course import Look, Optimised
from zoo.training.dataset import Encoded, Sample, encode, read_dataset, split
from zoo.training.initial import initialise
from zoo.training.invention.invention import InventionSettings, invent
from zoo.training.invention.samples import SampleRequests
from zoo.training.optimise import Recipe, Task, optimise
from zoo.training.prefix import PrefixStore, answer_logits, answer_loss
from zoo.training.teacher import Teacher

if TYPE_CHECKING:
    from torch import Tensor

WORK = ROOT / "build" / "train_recovery"
DEMO = "demo"
RATES = (3e-4, 1e-3, 3e-3)
TARGET, FEWER, WITHIN = 0.97, 3.0, 0.03
SAMPLES = 12  # requests that the invention is shown, without their answers
OPEN = 64  # open answers are decoded token by token: so many at most
ARMS = ("scratch", "real", "auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How much and where.

    Of the real training groups a `share` is for looks; `validation` and `held_out` are samples at most.
    """

    steps: int = 200
    recovery: int = 100
    batch: int = 16
    every: int = 4
    every_open: int = 20  # open answers are decoded at every look
    rates: tuple[float, ...] = RATES
    invented: int = 256
    rows: int = 128
    share: float = 0.15
    validation: int = 200
    held_out: int = 1000
    sizes: tuple[int, int] = (0, 0)
    device: str = "cpu"
    dtype: Dtype = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One task: its data, its LoRA, and where the invocation goes."""

    name: str
    train: Path
    held_out: Path
    lora: Path
    invocation: str
    contract: Contract | None
    folder: Path


def prepared(name: str, how: How, progress: Progress) -> Race:
    """Data and teacher of a task; the demo's is part of the project, others are trained."""
    folder = WORK / f"{name}-{how.device.partition(':')[0]}-{how.dtype}-{how.sizes[0]}"
    if name == DEMO:
        passages = [size // 2 or None for size in how.sizes]
        files = relevance_data.write(folder, train_passages=passages[0], test_passages=passages[1])
        lora = Path(relevance_data.__file__).parent / "relevance-lora"
        return Race(
            name=name, train=files[0], held_out=files[1], lora=lora, contract=None, folder=folder,
            invocation=relevance_data.INVOCATION,
        )  # fmt: skip
    task = task_named(name)
    folder.mkdir(parents=True, exist_ok=True)
    made = real_tasks.how_of(task, device=how.device, dtype=how.dtype)
    if how.sizes != (0, 0):
        made = replace(made, steps=how.steps, batch=how.batch)
    work = real_tasks.work_of(task, made, sizes=how.sizes)
    project = real_tasks.project_of(task, work, sizes=how.sizes)
    return Race(
        name=name, train=project.train, held_out=project.held_out, folder=folder,
        lora=trained(project, work / "seed-0", "lora", made, 0, progress), invocation=project.invocation,
        contract=Contract.read(project.folder / IO_NAME),
    )  # fmt: skip


class Ground:
    """What all arms of a task share: the model, the samples, the metric, the teacher's answers."""

    def __init__(self, race: Race, how: How, progress: Progress) -> None:
        base = resolve(DEFAULT)
        relabelled = race.folder / "relabelled"
        if not relabelled.is_dir():
            convert(
                race.lora, relabelled, base=DEFAULT, invocation_text=race.invocation, name=race.name,
                contract=race.contract,
            )  # fmt: skip
        self.how, self.race, self.progress, self.prompter = how, race, progress, Prompter(base)
        self.invocation = Invocation(
            text=race.invocation, ids=self.prompter.encode(race.invocation), position=Position.AFTER_PROMPT
        )
        invented = self._invented(base, relabelled)
        self.model = attach(
            load_model(base, dtype=how.dtype, device=how.device), relabelled, trainable=True
        ).eval()
        self.start = {name: p.detach().clone() for name, p in self.trained().items()}
        samples = read_dataset(race.train, values=race.contract is not None).samples
        inside, validation = split(samples, held_out=how.share, seed=1)
        held_out = read_dataset(race.held_out, values=race.contract is not None).samples
        self.groups = [one.group for one in held_out[: how.held_out]]
        self.data = {"real": self.encoded(inside), "auto": self.encoded(invented)}
        self.data["scratch"] = self.data["real"]
        seen, unseen = self.encoded(validation), self.encoded(held_out)
        self.options = choices([sample.answer for sample in (*self.data["real"], *seen, *unseen)])
        self.seen = seen[: how.validation if self.options else OPEN]
        self.unseen = unseen[: how.held_out]
        self.stores = {
            name: PrefixStore(self.model, given)
            for name, given in (*self.data.items(), ("seen", self.seen), ("unseen", self.unseen))
            if name != "scratch"
        }
        self.stores["scratch"] = self.stores["real"]
        self.lora = {
            name: self.right(PrefixStore(self.model, given, adapted=True))
            for name, given in (("seen", self.seen), ("unseen", self.unseen))
        }
        self.teachers = {name: Teacher(self.model, self.data[name]) for name in ("real", "auto")}
        for name, teacher in self.teachers.items():
            teacher.compute(progress, label=f"teacher, {name}")

    def steps(self, arm: str) -> int:
        """How many an arm runs at most."""
        return self.how.steps if arm == "scratch" else self.how.recovery

    def trained(self) -> "dict[str, Any]":
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def encoded(self, samples: Sequence[Sample]) -> list[Encoded]:
        contract = self.race.contract
        return encode(
            samples, self.prompter, self.invocation, name="data", max_tokens=4096, contract=contract
        )

    def right(self, store: PrefixStore) -> list[float]:
        """Whether each answer is the wanted one: the likeliest of a closed set, else decoded greedily."""
        expected = [sample.answer for sample in store.samples]
        given = answer_all(store, self.options)
        return [float(one == wanted) for one, wanted in zip(given, expected, strict=True)]

    def _invented(self, base: BaseModel, relabelled: Path) -> Sequence[Sample]:
        how, race = self.how, self.race
        shown = race.folder / "sample-requests.jsonl"
        lines = race.train.read_text(encoding="utf-8").splitlines()
        step = max(1, len(lines) // SAMPLES)
        shown.write_text("\n".join(lines[::step][:SAMPLES]), encoding="utf-8")
        made = invent(
            race.folder / "invented.jsonl",
            base=base,
            relabelled=relabelled,
            invocation=self.invocation,
            samples=SampleRequests.read(shown),
            contract=race.contract,
            settings=InventionSettings(samples=how.invented, batch=how.rows),
            work=race.folder,
            device=how.device,
            dtype=how.dtype,
            progress=self.progress,
        )
        print(json.dumps({key: made.record[key] for key in ("drafted", "crossed", "rejected", "answers")}))
        return read_dataset(made.path, values=race.contract is not None).samples


def ran(ground: Ground, arm: str, rate: float, target: float) -> dict[str, Any]:
    """One arm with one learning rate: what of it counts. It is kept beside the work, and read if it is there.

    Returns:
        The steps to the target, whether it was reached, the best score, and per held-out sample 1 or 0.
    """
    teacher = sha256_file(ground.race.lora / WEIGHTS_NAME)
    said = json.dumps([asdict(ground.how), arm, rate, teacher], sort_keys=True).encode()
    path = ground.race.folder / f"{arm}-{rate:g}-{sha256_bytes(said)[:8]}.json"
    if not path.is_file():
        begin = time.monotonic()
        done, right = run(ground, arm, rate)
        steps, reached = steps_to(done, target, ground.steps(arm))
        kept = {"steps": steps, "reached": reached, "best": done.best_score, "right": right}
        path.write_text(json.dumps(kept), encoding="utf-8")
        print(f"{arm} at {rate:g}: {steps} steps, {time.monotonic() - begin:.0f} s", flush=True)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def run(ground: Ground, arm: str, rate: float) -> tuple[Optimised, list[float]]:
    """One arm with one learning rate; whether its best weights answer each held-out sample rightly."""
    import torch

    how, store = ground.how, ground.stores[arm]
    with torch.no_grad():
        for name, parameter in ground.trained().items():
            parameter.copy_(ground.start[name])
    if arm == "scratch":
        initialise(ground.model, "kaiming", seed=0, shared_a=None)

    def look() -> Look:
        right = ground.right(ground.stores["seen"])
        share = sum(right) / len(right)
        return Look(rank=(share,), values={"metric": share})

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
    done = optimise(task, recipe, label=f"{ground.race.name}, {arm}, {rate:g}", progress=ground.progress)
    return done, ground.right(ground.stores["unseen"])


def _loss(ground: Ground, arm: str) -> "Callable[[Sequence[int]], Tensor]":
    import torch

    store = ground.stores[arm]
    if arm == "scratch":
        return lambda rows: answer_loss(store, rows)
    teacher = ground.teachers[arm]
    return lambda rows: teacher.divergence(rows, torch.cat(answer_logits(store, rows)))


def steps_to(done: Optimised, target: float, steps: int) -> tuple[int, bool]:
    """The first look at the target, and whether there was one; the relabelled LoRA's own look counts as 1."""
    found = [step for step, values in done.looks if values["metric"] >= target]
    return (max(1, found[0]), True) if found else (steps + 1, False)


def measure(ground: Ground) -> dict[str, Any]:
    """All arms of a task."""
    lora = ground.lora
    target = TARGET * sum(lora["seen"]) / len(lora["seen"])
    steps: dict[str, int] = {}
    value: dict[str, Any] = {
        "validation": len(ground.seen),
        "held_out": len(ground.unseen),
        "teacher": _shown(of_mean(lora["unseen"], ground.groups)),
    }
    final: dict[str, list[float]] = {}
    for arm in ARMS:
        tried = {rate: ran(ground, arm, rate, target) for rate in ground.how.rates}
        rate, first = min(tried.items(), key=lambda item: (item[1]["steps"], -item[1]["best"]))
        steps[arm], final[arm] = first["steps"], first["right"]
        value[arm] = {
            "steps": steps[arm],
            "reached": first["reached"],
            "rate": rate,
            "held_out": _shown(of_mean(final[arm], ground.groups)),
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
    """Every task recovers in a third of the steps, and made data are as good as real ones."""
    return all(
        value["real"]["reached"]
        and value["fewer_real"] >= FEWER
        and value["auto_minus_real"]["value"] >= -WITHIN
        for value in values.values()
    )


def _shown(found: Interval) -> dict[str, Any]:
    return {"value": round(found.value, 3), "interval_95": [round(found.low, 3), round(found.high, 3)]}


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
            how, steps=40, recovery=40, batch=8, every=4, rates=(1e-3,), invented=32, rows=24, validation=48,
            held_out=60, share=0.4, sizes=(120, 60),
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
        f">= {FEWER:g} on every task; auto within {WITHIN} of real data",
        met(values),
        "an aLoRA from nothing, same model, rank, batch, order, steps and learning rates, in the same run",
        f"python -m tests.benchmarks.train_recovery --device {how.device} --dtype {how.dtype}",
        note=f"learning rates tried for every arm: {', '.join(f'{rate:g}' for rate in RATES)}; each arm's "
        f"fastest counts; looks every {how.every} steps, every "
        f"{how.every_open} of an open task; {SAMPLES} sample requests shown to the invention",
    )


if __name__ == "__main__":
    main()
