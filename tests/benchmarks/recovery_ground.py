"""What the arms of one task of `train_recovery` share: data, the LoRA, one model, the starts, the metric."""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks import real_tasks
from tests.benchmarks.evidence import ROOT
from tests.demo import relevance_data
from tests.tasks.arms import trained
from tests.tasks.task import task_named
from zoo.adapter import IO_NAME
from zoo.conversion import convert
from zoo.converters.changes import Changes
from zoo.evaluation.answers import answer_all, choices
from zoo.models import DEFAULT, BaseModel, Dtype, load_model, resolve
from zoo.peft_model import attach
from zoo.progress import Progress
from zoo.prompts import Invocation, Prompter
from zoo.provenance import sha256_bytes
from zoo.specs.release import Position
from zoo.training.calibration import closest, take, trained_weights
from zoo.training.contract import Contract
from zoo.training.dataset import Encoded, Sample, encode, read_dataset, split
from zoo.training.invention.invention import InventionSettings, invent
from zoo.training.invention.samples import SampleRequests
from zoo.training.prefix import PrefixStore, answer_logits
from zoo.training.streams import streams
from zoo.training.teacher import Teacher

if TYPE_CHECKING:
    from torch import Tensor

WORK = ROOT / "build" / "train_recovery"
DEMO = "demo"
SAMPLES = 12  # requests that the invention is shown, without their answers
JUDGES = 64  # of an arm's own samples, which say what of a calibration is kept
OPEN = 100  # open answers are decoded token by token: so many of validation, twice as many held out


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How much and where.

    Of the real training groups a `share` is for validation; `validation` and `held_out` are samples at most.
    `fresh` and `calibrated` are the learning rates tried, by what an arm begins with. A look is every so many
    steps; open answers are decoded at it, so that they are looked at less often.
    """

    steps: int = 450
    recovery: int = 100
    batch: int = 16
    every: int = 15
    every_open: int = 25
    fresh: tuple[float, ...] = (1e-3, 3e-3)
    calibrated: tuple[float, ...] = (1e-4, 3e-4)
    invented: int = 1024
    rows: int = 256
    share: float = 0.15
    validation: int = 200
    held_out: int = 500
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What an arm begins with.

    Attributes:
        weights: of the adapter, by parameter name.
        seconds: that their calibration took, the teacher's passes included; 0 without one.
        samples: that it was made on.
        fitted: see `zoo.training.calibration.Calibrated`.
    """

    weights: "dict[str, Tensor]"
    seconds: float = 0.0
    samples: int = 0
    fitted: str = ""

    @property
    def sha256(self) -> str:
        """Of the weights: what an arm is kept by, so that none is kept of another start."""
        kept = (
            self.weights[name].float().cpu().contiguous().numpy().tobytes() for name in sorted(self.weights)
        )
        return sha256_bytes(b"".join(kept))


class Ground:
    """What all arms of a task share: the model, the samples, the metric, the teacher's answers, the starts.

    All of them train the same modules: those of the LoRA, and the output projections that a calibration
    needs, to which the LoRA that is converted does nothing.
    """

    def __init__(self, race: Race, how: How, progress: Progress) -> None:
        base = resolve(DEFAULT)
        relabelled = race.folder / "widened"
        if not relabelled.is_dir():
            convert(
                race.lora, relabelled, base=DEFAULT, invocation_text=race.invocation, name=race.name,
                contract=race.contract, changes=Changes(outputs=True),
            )  # fmt: skip
        self.how, self.race, self.progress, self.prompter = how, race, progress, Prompter(base)
        self.invocation = Invocation(
            text=race.invocation, ids=self.prompter.encode(race.invocation), position=Position.AFTER_PROMPT
        )
        invented = self._invented(base, relabelled)
        self.model = attach(
            load_model(base, dtype=how.dtype, device=how.device), relabelled, trainable=True
        ).eval()
        samples = read_dataset(race.train, values=race.contract is not None).samples
        inside, validation = split(samples, held_out=how.share, seed=1)
        held_out = read_dataset(race.held_out, values=race.contract is not None).samples
        self.data = {"real": self.encoded(inside), "auto": self.encoded(invented)}
        seen, unseen = self.encoded(validation), self.encoded(held_out)
        self.options = choices([sample.answer for sample in (*self.data["real"], *seen, *unseen)])
        self.seen = seen[: how.validation if self.options else OPEN]
        self.unseen = unseen[: how.held_out if self.options else 2 * OPEN]
        self.groups = [one.group for one in held_out[: len(self.unseen)]]
        self.stores = {
            name: PrefixStore(self.model, given)
            for name, given in (*self.data.items(), ("seen", self.seen), ("unseen", self.unseen))
        }
        self.data["scratch"], self.stores["scratch"] = self.data["real"], self.stores["real"]
        self.lora = self.right(PrefixStore(self.model, self.unseen, adapted=True))
        self.relabelled = self.right(self.stores["unseen"])
        self.teachers = {name: Teacher(self.model, self.data[name]) for name in ("real", "auto")}
        for name, teacher in self.teachers.items():
            teacher.compute(progress, label=f"teacher, {name}")
        self.starts = self._starts()

    def _starts(self) -> dict[str, Start]:
        """By arm; the weights are those of the LoRA now, and afterwards."""
        found = {"scratch": Start(weights=trained_weights(self.model))}
        for name in ("real", "auto"):
            self.stores[name].fill(self.progress)  # which a training would do, too
            begin = time.monotonic()
            fitted, judging = apart(
                [sample.group or f"row {row}" for row, sample in enumerate(self.data[name])]
            )
            wanted = streams(self.model, [self.data[name][row] for row in fitted], self.progress)
            wanted = replace(wanted, batches=[[fitted[place] for place in part] for part in wanted.batches])
            far = partial(self.far, name, judging)
            done = closest(self.model, self.stores[name], wanted, far, self.progress)
            found[name] = Start(
                weights=trained_weights(self.model),
                seconds=time.monotonic() - begin,
                samples=len(fitted),
                fitted=done.fitted,
            )
            take(self.model, found["scratch"].weights)
        return found

    def far(self, name: str, rows: Sequence[int]) -> float:
        """The divergence from the teacher on some samples of an arm's data, nats a token."""
        import torch

        store = self.stores[name]
        with torch.no_grad():
            logits = torch.cat(answer_logits(store, rows, recorded=False))
            total = float(self.teachers[name].divergence(rows, logits))
        return total / sum(len(store.samples[row].answer) for row in rows)

    def rates(self, arm: str) -> tuple[float, ...]:
        """Those that an arm is run with."""
        return self.how.fresh if arm == "scratch" else self.how.calibrated

    def steps(self, arm: str) -> int:
        """How many an arm runs at most."""
        return self.how.steps if arm == "scratch" else self.how.recovery

    def trained(self) -> "dict[str, Any]":
        """The adapter's parameters."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def encoded(self, samples: Sequence[Sample]) -> list[Encoded]:
        """Samples as ids."""
        contract = self.race.contract
        return encode(
            samples, self.prompter, self.invocation, name="data", max_tokens=4096, contract=contract
        )

    def right(self, store: PrefixStore) -> list[float]:
        """Whether each answer is the wanted one: the likeliest of a closed set, else decoded greedily."""
        given = answer_all(store, self.options)
        return [
            # the same text may be put into tokens in several ways
            float(one == sample.answer or self.prompter.decode(one) == self.prompter.decode(sample.answer))
            for one, sample in zip(given, store.samples, strict=True)
        ]

    def _invented(self, base: BaseModel, relabelled: Path) -> Sequence[Sample]:
        how, race = self.how, self.race
        shown = race.folder / "sample-requests.jsonl"
        lines = race.train.read_text(encoding="utf-8").splitlines()
        shown.write_text("\n".join(_spread(lines)), encoding="utf-8")
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


def apart(groups: Sequence[str]) -> tuple[list[int], list[int]]:
    """Samples to fit a calibration to, and a few groups of them that say what of it is kept; in order.

    Neither the first nor the last would do: data may be sorted by their answers.
    """
    drawn = sorted(set(groups))
    random.Random(0).shuffle(drawn)
    judging: list[int] = []
    for group in drawn:
        if len(judging) >= min(JUDGES, len(groups) // 4):
            break
        judging += [row for row, own in enumerate(groups) if own == group]
    return [row for row in range(len(groups)) if row not in set(judging)], sorted(judging)


def _spread(lines: Sequence[str]) -> list[str]:
    """A few requests from all over the data, with every value of the arguments where these are few."""
    by_arguments: dict[str, list[str]] = {}
    for line in lines:
        arguments = json.dumps(json.loads(line).get("arguments", {}), sort_keys=True)
        by_arguments.setdefault(arguments, []).append(line)
    alike = list(by_arguments.values())[:SAMPLES]
    share = -(-SAMPLES // len(alike))
    rounds = [[own[place * len(own) // share] for own in alike] for place in range(share)]
    return [line for one in rounds for line in one][:SAMPLES]
