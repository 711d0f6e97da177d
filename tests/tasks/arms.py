"""One task's adapters, made as a user makes them, and what each answers to the held-out samples.

base        the base model, asked in words
lora        `zoo train --kind lora`: the adapter acts on every token
scratch     `zoo train`: an aLoRA from nothing
relabelled  `zoo convert` of the LoRA without recovery
recovered   `zoo convert --recover --calibrate` of the LoRA

A closed answer is the likeliest of the task's answers; an open one is decoded greedily by PEFT's own
`generate`, and right when it is JSON that equals what is wanted.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.tasks.task import Project
from zoo.adapter import IO_NAME
from zoo.conversion import convert
from zoo.evaluation.answers import answer_all
from zoo.models import DEFAULT, BaseModel, Dtype, load_model, resolve
from zoo.peft_model import attach, guarded
from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompter
from zoo.scaffolds.invocation import invocation_text
from zoo.specs.release import Position
from zoo.staging import write_file
from zoo.training.contract import Contract
from zoo.training.dataset import Encoded, encode, read_dataset
from zoo.training.distil_settings import DistilSettings
from zoo.training.parts import DataSettings
from zoo.training.plan import Kind, TrainSettings
from zoo.training.prefix import PrefixStore
from zoo.training.project import Project as Authored
from zoo.training.train import train

ARMS = ("base", "lora", "scratch", "relabelled", "recovered")
KINDS: dict[str, Kind] = {"lora": "lora", "scratch": "alora"}  # trained on the data themselves
OPEN_TOKENS = 48  # of a decoded answer, at most
MAX_TOKENS = 4096
ROWS = 128  # decoded together
VALIDATION = 0.12  # of the training groups: they choose the best step
FEW = 0.04  # of the training groups
LOOK = 20  # steps between two looks at them, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How much and where.

    Attributes:
        steps: of both trainings.
        recovery: steps of a recovery, at most.
        batch: samples a step.
        rank: of every adapter.
        calibrate: whether a recovery begins calibrated.
        verdict: whether the conversion measures on all held-out samples and says what it thinks of the
            task; else on a few of the training groups, which is quicker. The scores are the same.
        device: torch device.
        dtype: of the base weights.
    """

    steps: int
    recovery: int
    batch: int = 16
    rank: int = 32
    calibrate: bool = True
    verdict: bool = True
    device: str = "cpu"
    dtype: Dtype = "float32"


def make(project: Project, folder: Path, how: How, seed: int, progress: Progress = silent) -> None:
    """Makes the adapters that `folder` lacks; a killed training goes on where it was.

    Args:
        project: task and data.
        folder: gets one folder an adapter.
        how: how much and where.
        seed: of the trainings.
        progress: told about each stage.
    """
    base = project.base or DEFAULT
    where: dict[str, Any] = {"base": base, "device": how.device, "dtype": how.dtype, "progress": progress}
    for arm in KINDS:
        trained(project, folder, arm, how, seed, progress)
    wanted: dict[str, Any] = {
        "invocation_text": project.invocation,
        "name": project.task.name,
        "contract": Contract.read(project.folder / IO_NAME),
        **where,
    }
    if not (folder / "relabelled").is_dir():
        convert(folder / "lora", folder / "relabelled", **wanted)
    if not (folder / "recovered").is_dir():
        chosen = DistilSettings.of(
            steps=how.recovery,
            batch=how.batch,
            calibrate=how.calibrate,
            eval_data=project.held_out if how.verdict else None,
            control=how.verdict,
        )
        few = chosen.data if how.verdict else replace(chosen.data, held_out=FEW, validation=VALIDATION)
        chosen = replace(chosen, data=few, recipe=replace(chosen.recipe, seed=seed))
        convert(folder / "lora", folder / "recovered", recover=project.train, settings=chosen, **wanted)


def trained(
    project: Project, folder: Path, arm: str, how: How, seed: int, progress: Progress = silent
) -> Path:
    """The folder of an adapter that is trained on the data, made if it is not there; arguments as `make`.

    Args:
        arm: one of `KINDS`.
    """
    out = folder / arm
    if not out.is_dir():
        settings = TrainSettings.of(
            kind=KINDS[arm],
            steps=how.steps,
            batch=how.batch,
            rank=how.rank,
            seed=seed,
            check_every=max(LOOK, how.steps // 10),
            # the held-out samples are a file of their own, and every arm is measured below
            data=DataSettings(held_out=0.0, validation=VALIDATION),
        )
        where: dict[str, Any] = {"device": how.device, "dtype": how.dtype, "progress": progress}
        authored = Authored.open(project.folder)
        train(project.train, out, project=authored, settings=settings, base=project.base or DEFAULT, **where)
    return out


def scores(project: Project, folder: Path, arm: str, how: How) -> list[float]:
    """Whether an arm's answer to each held-out sample is right, 1 or 0; measured once, then read.

    Args:
        project: task and data.
        folder: in which `make` made the adapters.
        arm: one of `ARMS`.
        how: where.
    """
    path = folder / f"{arm}.scores.json"
    if not path.is_file():
        base = resolve(project.base or DEFAULT)
        samples = _encoded(project, base, arm)
        adapter = "scratch" if arm == "base" else arm  # switched off for the base
        model = attach(load_model(base, dtype=how.dtype, device=how.device), folder / adapter).eval()
        if project.task.closed:
            found = _closed(model, samples, adapted=arm != "base")
        else:
            found = _open(model, samples, base, adapted=arm != "base")
        write_file(path, json.dumps(found).encode())
    known: list[float] = json.loads(path.read_text(encoding="utf-8"))
    return known


def _encoded(project: Project, base: BaseModel, arm: str) -> list[Encoded]:
    """The held-out samples as an arm reads them: a LoRA acts on all tokens and has no prefix."""
    prompter = Prompter(base)
    text, position = project.invocation, Position.AFTER_PROMPT
    path: Path = project.held_out
    contract: Contract | None = Contract.read(project.folder / IO_NAME)
    if arm == "base":
        text, position = invocation_text("assistant", prompter), Position.GENERATION_PROMPT
        path, contract = project.asked, None
    invocation = Invocation(text=text, ids=prompter.encode(text), position=position)
    data = read_dataset(path, values=contract is not None)
    found = encode(
        data.samples, prompter, invocation, name=data.name, max_tokens=MAX_TOKENS, contract=contract
    )
    if arm != "lora":
        return found
    return [replace(sample, prefix=(), lead=sample.prefix + sample.lead) for sample in found]


def _closed(model: Any, samples: Sequence[Encoded], *, adapted: bool) -> list[float]:
    store = PrefixStore(model, samples)
    expected = [sample.answer for sample in samples]
    given = answer_all(store, sorted(set(expected)), adapted=adapted)
    return [float(one == wanted) for one, wanted in zip(given, expected, strict=True)]


def _open(model: Any, samples: Sequence[Encoded], base: BaseModel, *, adapted: bool) -> list[float]:
    """Longest prompts first, so that little is padding; results in the samples' order."""
    from contextlib import nullcontext

    prompter = Prompter(base)
    found = [0.0] * len(samples)
    order = sorted(range(len(samples)), key=lambda row: -samples[row].tokens)
    with guarded(model), nullcontext() if adapted else model.disable_adapter():
        for begin in range(0, len(order), ROWS):
            rows = order[begin : begin + ROWS]
            given = _generate(model, [samples[row].prefix + samples[row].lead for row in rows], prompter)
            for row, ids in zip(rows, given, strict=True):
                wanted = prompter.tokenizer.decode(list(samples[row].answer), skip_special_tokens=True)
                reply = prompter.tokenizer.decode(ids, skip_special_tokens=True)
                found[row] = float(_json(reply) == json.loads(wanted))
    return found


def _generate(model: Any, prompts: Sequence[Sequence[int]], prompter: Prompter) -> list[list[int]]:
    """Greedy answers, prompts padded on the left."""
    import torch

    width, (end, *_) = max(map(len, prompts)), prompter.end_ids
    ids = torch.full((len(prompts), width), end)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    output = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=OPEN_TOKENS,
        do_sample=False,
        pad_token_id=end,
        eos_token_id=end,
    )
    answers: list[list[int]] = output[:, width:].tolist()
    return answers


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
