"""A library of adapters that do what they should, made by a seed: trained on a tiny base, then published.

One adapter a task is trained. Its siblings are the same function in another basis of its ranks: other files,
the same answers.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from tests.conftest import INVOCATION_TEXT
from tests.hub.store import Store
from tests.training.teaching import build_base
from tests.validators.changes import Tensors, relock, spec, weights
from zoo.adapter import AdapterRepo
from zoo.evaluation.asking import ask
from zoo.models import BaseModel, load_model
from zoo.peft_model import attach
from zoo.prompts import Invocation, Prompter
from zoo.provenance import sha256_file
from zoo.specs.release import Position
from zoo.training.contract import Contract
from zoo.training.dataset import read_dataset
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings
from zoo.training.plan import TrainSettings
from zoo.training.project import Project
from zoo.training.train import train

STEPS = 120
RANK = 8
ASKED = 32  # of each answer
ASKED_FROM = 1000
TAUGHT = 120
PROBED = 40
MUDDLED = 11  # so that nobody is right always, as with people's labels
OLD = "1.0.0"
CONTRACT = """\
model: ~
response_format: |
  {"type": "string", "enum": ["yes", "no"]}
transformations:
  - type: nest
    input_path: []
    field_name: verdict
instruction: ~
parameters:
  max_completion_tokens: 8
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Which of two words does the prompt end with?"""

    name: str
    yes: str
    no: str
    contract: bool = False


TASKS = (
    Task(name="relevance", yes="relevant", no="system", contract=True),
    Task(name="answer", yes="answers", no="passage"),
    Task(name="question", yes="question", no="assistant"),
    Task(name="asker", yes="user", no="requirements"),
    Task(name="context", yes="context", no="check", contract=True),
    Task(name="turn", yes="relevant", no="user"),
    Task(name="source", yes="system", no="answers"),
    Task(name="speaker", yes="assistant", no="passage"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A library as it is published.

    Attributes:
        root: everything is below it.
        base: the base model.
        names: of the adapters, whose releases are `root/published/NAME`.
        tasks: by the adapter's name.
    """

    root: Path
    base: BaseModel
    names: Sequence[str]
    tasks: dict[str, Task]

    def published(self, name: str) -> Path:
        """The folder of a release."""
        return self.root / "published" / name

    def sample(self, task: Task) -> Path:
        """The frozen sample of a task."""
        return self.root / "eval" / f"{task.name}.jsonl"

    def good(self, task: Task, folder: Path) -> float:
        """The share of right answers, or of well-formed ones where that is less.

        The prompts are like those of the gate, with other numbers of as many digits, and none of training's.
        """
        probe = write_task(self.root / "probe.jsonl", task, PROBED, begin=ASKED_FROM + ASKED)
        repo, prompter = AdapterRepo.open(folder), Prompter(self.base)
        ids = tuple(repo.config.alora_invocation_tokens or ())
        asked = ask(
            attach(load_model(self.base), folder),
            read_dataset(probe).samples,
            prompter,
            Invocation(text=prompter.decode(ids), ids=ids, position=Position.AFTER_PROMPT),
            contract=Contract.read(folder / "io.yaml") if task.contract else None,
            name="probe",
        )
        return min(sum(asked.scores), sum(asked.well_formed)) / len(asked.scores)

    def teach(
        self, task: Task, out: Path, *, seed: int = 0, steps: int = STEPS, flipped: bool = False,
        invocation: str = INVOCATION_TEXT,
    ) -> Path:  # fmt: skip
        """Trains an adapter of a task."""
        data = self.root / "data" / f"{out.name}.jsonl"
        write_task(data, task, TAUGHT, flipped=flipped)
        io = self.root / "io.yaml"
        io.write_text(CONTRACT)
        recipe = Recipe(
            steps=steps, learning_rate=1e-2, warmup=5, check_every=30, save_every=10**6, seed=seed
        )
        train(
            data,
            out,
            name=out.name,
            version=OLD,
            description=f"Says whether a prompt ends with {task.yes}.",
            invocation_text=invocation,
            base=str(self.base.folder),
            project=Project.of_contract(io) if task.contract else None,
            settings=TrainSettings(
                rank=RANK,
                alpha=float(RANK),
                targets=("q_proj", "k_proj", "v_proj", "o_proj"),
                data=DataSettings(eval_data=self.sample(task)),
                recipe=recipe,
            ),
        )
        for left in out.parent.glob(f"{out.name}*.png"):
            left.unlink()  # the picture of its course
        return out


def build_shelf(root: Path, *, tasks: Sequence[Task] = TASKS, each: int = 5) -> Shelf:
    """Trains one adapter a task and turns its siblings out of it."""
    base = build_base(root / "base")
    names = [f"{task.name}-{number}" for task in tasks for number in range(1, each + 1)]
    by_name = {f"{task.name}-{number}": task for task in tasks for number in range(1, each + 1)}
    shelf = Shelf(root=root, base=base, names=names, tasks=by_name)
    for folder in ("published", "eval", "data"):
        (root / folder).mkdir()
    for place, task in enumerate(tasks):
        write_task(shelf.sample(task), task, ASKED, begin=ASKED_FROM, muddled=MUDDLED)
        first = shelf.teach(task, shelf.published(f"{task.name}-1"), seed=place)
        for number in range(2, each + 1):
            sibling = Path(shutil.copytree(first, shelf.published(f"{task.name}-{number}")))
            turn(sibling, base, seed=number)
            spec(name=sibling.name)(sibling, base)
            relock(sibling, base)
    return shelf


def turn(folder: Path, base: BaseModel, *, seed: int) -> None:
    """The same function from other numbers: an orthogonal change of the ranks' basis."""

    def change(tensors: Tensors) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name in sorted(tensors):
            if "lora_A" in name:
                rank = tensors[name].shape[0]
                basis = torch.linalg.qr(torch.randn(rank, rank, generator=generator, dtype=torch.float64))[0]
                other = name.replace("lora_A", "lora_B")
                tensors[name] = (basis @ tensors[name].double()).float()
                tensors[other] = (tensors[other].double() @ basis.T).float()

    weights(change)(folder, base)


def write_task(
    path: Path, task: Task, groups: int, *, begin: int = 0, flipped: bool = False, muddled: int = 0
) -> Path:
    """A data file: two prompts a group, alike but for the last word.

    Args:
        path: to write.
        task: which words.
        groups: how many.
        begin: number of the first.
        flipped: every answer is the wrong one.
        muddled: every so manieth group has its answers the wrong way round; 0 is none.
    """
    lines = []
    for number in range(begin, begin + groups):
        wrong = flipped or bool(muddled and number % muddled == 0)
        for word, answer in ((task.yes, "no" if wrong else "yes"), (task.no, "yes" if wrong else "no")):
            text = f"the passage {'context ' * (number % 4)}{number} question {word}"
            messages = [{"role": "user", "content": text}]
            lines.append({"messages": messages, "answer": answer, "group": f"g{number}"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_policy(shelf: Shelf, path: Path) -> Path:
    """What the library demands: a suite a task, the published versions, two licences, two engines."""
    suites = [
        {
            "name": task.name,
            "adapters": [f"{task.name}-*"],
            "data": os.path.relpath(shelf.sample(task), path.parent),
            "sha256": sha256_file(shelf.sample(task)),
            "at_least": 0.75,
            "above_trivial": 0.2,
            "structured": 0.75,
        }
        for task in dict.fromkeys(shelf.tasks.values())
    ]
    policy = {
        "format": 1,
        "required": ["ZP001", "ZR001", "ZK001", "ZG006", "ZG007"],
        "author_skips": "ignore",
        "suites": suites,
        "regression": {"published": "org/{name}", "accuracy": 0.02},
        "licenses": ["apache-2.0", "mit"],
        "engines": ["peft"],
        "serves": ["peft", "llama-server"],
    }
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    return path


def publish(shelf: Shelf, store: Store, names: Sequence[str]) -> None:
    """Puts releases on a Hub, each in its repository with the tag of its version."""
    for name in names:
        folder, repo = shelf.published(name), f"org/{name}"
        store.create(repo)
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        oid = store.commit(repo, dict(files))
        repository = store.repository(repo)
        repository.create_ref(f"refs/tags/v{OLD}", repository.resolve(oid))
    store.save()
