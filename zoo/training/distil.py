"""Recovery of a relabelled LoRA: distillation from the LoRA it was, measured on data held out.

Relabelling changes what the adapter reads: the base's keys and values where it learnt its own. Started from
the same weights, the student (adapter on the suffix only) is pulled to the teacher (adapter on the whole
prompt) by the KL divergence of their predictions of the answer tokens. It ends when it comes no closer on
prompts that it is not trained on, and keeps the weights that came closest.
Source: Hinton et al. 2015, arXiv 1503.02531, at temperature 1; warm start against cold start measured on
toy tasks, where cold starts were still at chance when warm ones had finished.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import SpecError
from zoo.evaluation.answers import choices
from zoo.evaluation.boundary import WHOLE, begin_at
from zoo.evaluation.recovered import Measured
from zoo.models import BaseModel, Dtype, load_model
from zoo.peft_model import attach
from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompter
from zoo.provenance import sha256_file
from zoo.specs.lock import BehaviourRecord, TrainingRecord
from zoo.training import checkpoint
from zoo.training.calibration import NO_FURTHER, NOTHING, Calibrated, closest, kept
from zoo.training.contract import Contract
from zoo.training.course import Look, Optimised
from zoo.training.distil_settings import DistilSettings
from zoo.training.initial import initialise
from zoo.training.metric import Metric, read_json
from zoo.training.optimise import Recipe, Task, optimise
from zoo.training.original import original_teacher
from zoo.training.parts import Parts, divide
from zoo.training.prefix import PrefixStore, answer_logits, held_batches
from zoo.training.record import distillation_record
from zoo.training.streams import Streams, streams
from zoo.training.teacher import Teacher, claim, together

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.dataset import Encoded

WEIGHTS_NAME = "adapter_model.safetensors"
RUN, TEACHER, CONTROL = "run", "teacher", "control"  # folders of an unfinished recovery
CONTROL_TOKENS = 4096  # run at once with gradients, where the whole prompt carries them


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A recovered adapter.

    Attributes:
        weights: by PEFT file key, float32.
        training: how they were made.
        behaviour: base, lora, relabelled, recovered on held-out data, compared.
        losses: mean loss of each step, nats a token.
        looks: every look at validation data: the step, and what was seen.
    """

    weights: dict[str, "Tensor"]
    training: TrainingRecord
    behaviour: BehaviourRecord
    losses: Sequence[float] = ()
    looks: Sequence[tuple[int, Mapping[str, float]]] = ()

    def to_document(self) -> dict[str, Any]:
        """How it went, as plain data."""
        return {
            "training": self.training.model_dump(mode="json"),
            "losses": list(self.losses),
            "looks": [{"step": step, **values} for step, values in self.looks],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One recovery's model, data and settings."""

    model: "PeftModel"
    parts: Parts
    settings: DistilSettings
    identity: Mapping[str, Any]
    work: Path | None
    progress: Progress

    def folder(self, name: str) -> Path | None:
        return self.work / name if self.work else None

    @property
    def calibrated(self) -> Path | None:
        """Where a calibration is kept, beside the teacher's predictions that it was judged by."""
        folder = self.folder(TEACHER)
        return folder and folder / "calibrated"

    @property
    def to_calibrate(self) -> bool:
        """Whether a calibration is asked for, and was not made before this run was stopped."""
        return self.settings.calibrate and not (self.calibrated and self.calibrated.is_dir())


def recover(
    *,
    base: BaseModel,
    relabelled: Path,
    invocation: Invocation,
    data: Path,
    settings: DistilSettings | None = None,
    contract: Contract | None = None,
    original: Path | None = None,
    work: Path | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Recovery:
    """Distils a relabelled LoRA until it answers as the LoRA does, and measures by how much it now does.

    Args:
        base: the base model.
        relabelled: an aLoRA folder in normal form; its weights on every token are the teacher, unless there
            is an original.
        invocation: as in that folder.
        data: JSONL of prompts and answers.
        settings: see `DistilSettings`.
        contract: the adapter's `io.yaml`, which makes the prompts and judges the replies; or None.
        original: the adapter of which `relabelled` is an approximation, as PEFT loads it: the teacher; or
            None.
        work: where the teacher's predictions and the run's state are kept until it is finished: called
            again after it was killed, it goes on with the same losses. None keeps nothing.
        device: torch device.
        dtype: of the base weights; the adapter is trained in float32.
        progress: told about each stage.

    Raises:
        SpecError: ZD001 or ZD002, the data breaks its form or is too little.
        RefusedError: ZI004 or ZD003, a prompt lacks the invocation or is too long.
        VerdictError: ZD005, the training breaks down.
        UsageError: ZD004, `work` holds another run; ZD021, the teacher's predictions take too much.
    """
    settings = settings or DistilSettings()
    if work:
        checkpoint.restore_threads(work / RUN)
    prompter = Prompter(base)
    parts = divide(data, prompter, invocation, settings.data, seed=settings.recipe.seed, contract=contract)
    if not parts.held_out:
        raise SpecError("no samples are held out: nothing could be measured", code="ZD002")
    model = attach(load_model(base, dtype=dtype, device=device), relabelled, trainable=True)
    model.eval()  # no dropout: teacher and student must differ in what they read alone
    identity = {
        "data": parts.sha256,
        "eval_data": parts.eval_sha256,
        "contract": contract.sha256 if contract else "",
        "base": base.revision or base.weights_sha256,
        "adapter": sha256_file(relabelled / WEIGHTS_NAME),
        "original": sha256_file(original / WEIGHTS_NAME) if original else "",
        "invocation": list(invocation.ids),
        "base_dtype": dtype,
        "device": device,
        **settings.identity(),
    }
    run = _Run(model=model, parts=parts, settings=settings, identity=identity, work=work, progress=progress)
    if original is None:
        return _recover(run, prompter, dtype, lambda: model)
    teacher = partial(
        original_teacher, original, base=base, relabelled=relabelled, dtype=dtype, device=device
    )
    return _recover(run, prompter, dtype, teacher)


def weights(model: "PeftModel") -> dict[str, "Tensor"]:
    """The adapter's weights by PEFT file key, float32, on the host."""
    from peft import get_peft_model_state_dict

    # "auto" would ask the Hub for the base's vocabulary size (peft 0.21.2, utils/save_and_load.py)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().float().cpu() for name, tensor in state.items()}


def _recover(run: _Run, prompter: Prompter, dtype: Dtype, load: "Callable[[], PeftModel]") -> Recovery:
    parts, model, progress = run.parts, run.model, run.progress
    options = choices([sample.answer for part in (parts.train, parts.held_out) for sample in part])

    def text(ids: Sequence[int]) -> str:
        found: str = prompter.tokenizer.decode(list(ids), skip_special_tokens=True)
        return found

    metric = Metric(options=options, decode=text, read=parts.read_held_out or read_json)
    teacher = load()
    # first: a base that cannot be calibrated is told so in its first batch
    wanted = streams(teacher, parts.train, progress) if run.to_calibrate else None
    teachers = _teachers(run, teacher)  # while the weights are the LoRA's
    measured = Measured(model, samples=parts.held_out, metric=metric)
    folder = run.folder(TEACHER)
    measured.teach(progress, kept=folder and folder / "held_out.json", original=teacher)
    del teacher  # where it is a model of its own, its memory is the student's from here on
    train, validation = PrefixStore(model, parts.train), PrefixStore(model, parts.validation)
    train.fill(progress)
    measured.before(progress)

    begun = _calibrated(run, train, validation, teachers[1], wanted)
    settings = run.settings.behind(begun.left) if begun else run.settings
    more = {"calibration": begun.to_document()} if begun else {}
    optimised = _distil(run, train, validation, teachers, settings.recipe, name=RUN)
    measured.after(progress)
    made = weights(model)
    ending = run.settings.ending(optimised)
    comparison = measured.compare(ending, margin=run.settings.margin)
    if run.settings.control and ending.settled and comparison.verdict == "degraded":
        _examine(run, teachers, measured)
        comparison = measured.compare(ending, margin=run.settings.margin)
    return Recovery(
        weights=made,
        training=distillation_record(
            parts,
            settings,
            optimised,
            dtype=dtype,
            more={"teacher": teachers[0].note(), "ended": ending.said, **more},
        ),
        behaviour=measured.record(parts.eval_sha256, comparison),
        losses=optimised.losses,
        looks=optimised.looks,
    )


def _teachers(run: _Run, model: "PeftModel") -> tuple[Teacher, Teacher]:
    """The teacher's predictions of the training and the validation samples."""
    folder, top_k = run.folder(TEACHER), run.settings.teacher_top_k
    if folder:
        claim(folder, run.identity)
    found = tuple(
        Teacher(model, samples, folder=folder and folder / name, top_k=top_k)
        for name, samples in (("train", run.parts.train), ("validation", run.parts.validation))
    )
    for teacher, label in zip(found, ("teacher", "teacher, validation"), strict=True):
        teacher.compute(run.progress, label=label)
    return found[0], found[1]


def _calibrated(
    run: _Run, train: PrefixStore, validation: PrefixStore, judged: Teacher, wanted: Streams | None
) -> Calibrated | None:
    """Calibrates, where it is asked for; what is kept is what comes closest on prompts not fitted to."""

    def far() -> float:
        return float(_look(validation, judged).values["divergence"])

    if wanted is None:
        return kept(run.calibrated, run.model) if run.settings.calibrate and run.calibrated else None
    found = closest(run.model, train, wanted, far, run.progress)
    if run.calibrated:
        found.keep(run.calibrated, run.model)
    note = f"divergence {found.divergence[NOTHING]:.4f} to {found.divergence[found.fitted]:.4f}"
    said = "taken back" if found.fitted == NOTHING else found.fitted
    run.progress("calibrate", done=1, total=1, note=f"{note}: {said}")
    return found


def _distil(
    run: _Run,
    train: PrefixStore,
    validation: PrefixStore,
    teachers: tuple[Teacher, Teacher],
    recipe: Recipe,
    *,
    name: str,
) -> Optimised:
    import torch
    from torch.nn.functional import cross_entropy

    targets, judged = teachers
    share = run.settings.label_weight

    def loss(rows: Sequence[int]) -> "Tensor":
        logits = torch.cat(answer_logits(train, rows))
        total = (1 - share) * targets.divergence(rows, logits)
        if share:
            ids = [token for row in rows for token in train.samples[row].answer]
            labels = torch.tensor(ids, device=logits.device)
            total = total + share * cross_entropy(logits, labels, reduction="sum")
        return total

    task = Task(
        parameters={key: p for key, p in run.model.named_parameters() if p.requires_grad},
        samples=len(train.samples),
        tokens=[len(sample.answer) for sample in train.samples],
        loss=loss,
        prefetch=train.prefetch,
        score=lambda: _look(validation, judged),
        identity={**run.identity, "label_weight": share, "calibrate": run.settings.calibrate},
    )
    label = "distil" if name == RUN else name
    return optimise(task, recipe, work=run.folder(name), label=label, progress=run.progress)


def _look(store: PrefixStore, teacher: Teacher) -> Look:
    """How far the present weights are from the teacher on samples that are not trained on."""
    import torch

    tokens = sum(len(sample.answer) for sample in store.samples)
    far, alike = [], []
    with torch.no_grad():
        for rows in held_batches(store, most=together(store.samples, store.device.type)):
            logits = torch.cat(answer_logits(store, rows))
            far.append(teacher.divergence(rows, logits).double())
            alike.append((logits.argmax(dim=-1) == teacher.likeliest(rows, logits.device)).sum())
    divergence = float(torch.stack(far).sum()) / tokens
    agreement = float(torch.stack(alike).sum()) / tokens
    # two digits: what comes after them is no reason to go on
    return Look(
        rank=(-float(f"{max(divergence, NO_FURTHER):.1e}"),),
        values={"divergence": divergence, "token_agreement": agreement},
    )


def _examine(run: _Run, teachers: tuple[Teacher, Teacher], measured: Measured) -> None:
    """Runs the control, unless gradients of whole prompts do not fit on the device."""
    import torch

    try:
        measured.control(steps=_control(run, teachers), progress=run.progress)
    except torch.OutOfMemoryError:
        run.progress(CONTROL, done=1, total=1, note="whole prompts do not fit on the device: not examined")


def _control(run: _Run, teachers: tuple[Teacher, Teacher]) -> int:
    """Trains a fresh LoRA on the whole prompt, in place; how many steps it ran.

    With the recovery's data, steps and learning rate, and without its two advantages: it begins at nothing,
    and every step is a full pass.
    """
    recipe = run.settings.recipe
    initialise(run.model, "kaiming", seed=recipe.seed, shared_a=None)

    def whole(samples: "Sequence[Encoded]") -> PrefixStore:
        return PrefixStore(run.model, [begin_at(sample, WHOLE) for sample in samples], graphs=False)

    longest = max(sample.tokens for sample in run.parts.train)
    recipe = replace(
        recipe, micro_batch=max(1, min(recipe.micro_batch, CONTROL_TOKENS // longest)), patience=0
    )
    stores = whole(run.parts.train), whole(run.parts.validation)
    return len(_distil(run, *stores, teachers, recipe, name=CONTROL).losses)
