"""Training an activated LoRA from data to a release folder, on the base model's cached prefixes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.models import Dtype, load_model
from zoo.progress import Progress, silent
from zoo.specs.document import check
from zoo.specs.lock import BehaviourRecord, TrainingRecord
from zoo.specs.release import Position, ReleaseSpec
from zoo.staging import check_target
from zoo.training import tracking
from zoo.training.checkpoint import restore_threads
from zoo.training.course import Optimised
from zoo.training.fit import Run, Stores, fit, measure
from zoo.training.initial import digest_a, initialise
from zoo.training.outcome import write_outcome
from zoo.training.peers import claimed_together, peers_here
from zoo.training.plan import TrainingPlan, TrainSettings, plan_training
from zoo.training.project import Project
from zoo.training.quantised import load_in_4_bits
from zoo.training.record import training_record

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished training.

    Attributes:
        folder: the release folder; of a plain LoRA an adapter folder.
        training: the record in its lock.
        behaviour: what was measured on held-out data.
        losses: mean loss of each step, nats a token.
        looks: every look at validation data: the step, and what was seen.
        plot: what became of the picture of its course: a path, or why there is none.
    """

    folder: Path
    training: TrainingRecord
    behaviour: BehaviourRecord
    losses: Sequence[float]
    looks: Sequence[tuple[int, Mapping[str, float]]] = ()
    plot: str = ""

    def lines(self) -> list[str]:
        """The result for people, a line a fact."""
        measured = ", ".join(f"{name} {share:.3f}" for name, share in self.behaviour.accuracy.items())
        settings = self.training.settings
        seen = ", ".join(
            f"{name.replace('_', ' ')} {value:.4f}" for name, value in settings["validation"].items()
        )
        plain = settings["kind"] == "lora"
        return [
            f"written      {self.folder}",
            f"loss         {self.losses[0]:.4f} at step 1, {self.losses[-1]:.4f} at step {len(self.losses)}; "
            f"kept step {settings['best_step']}",
            f"validation   {seen}",
            f"accuracy     {measured} on {self.behaviour.samples} held-out samples"
            if measured
            else "accuracy     not measured: no held-out samples",
            f"plot         {self.plot}",
            "next         compare it with an aLoRA: a plain LoRA is not published as one"
            if plain
            else f"next         zoo validate {self.folder}",
        ]

    def to_document(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "folder": str(self.folder),
            "losses": list(self.losses),
            "looks": [{"step": step, **values} for step, values in self.looks],
            "training": self.training.model_dump(mode="json"),
            "behaviour": self.behaviour.model_dump(mode="json"),
        }


def train(
    data: Path | str,
    out: Path | str,
    *,
    name: str = "",
    invocation_text: str = "",
    base: str = "",
    position: Position | None = None,
    version: str = "",
    license: str = "",
    description: str = "",
    project: Project | None = None,
    settings: TrainSettings | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    tracker: tracking.Name | None = None,
    disk: Path | None = None,
    progress: Progress = silent,
) -> Trained:
    """Trains an aLoRA and writes its release folder.

    A run that was killed is resumed by calling it again with the same arguments; its state is in
    `.OUT.training` beside `out` until it is finished.

    Args:
        data: JSONL of prompts and answers.
        out: the release folder; must not exist, or be empty.
        name: of the intrinsic, for `zoo.yaml`; the project's, or else that of `out`.
        invocation_text: see `plan_training`, as `base`, `position` and `project`.
        base: the base model.
        position: where the invocation stands.
        version: semantic version; this and the next two are the project's where they are left out.
        license: SPDX identifier, lower case.
        description: for the card.
        project: what the author wrote: `io.yaml` and `NOTES.md` go into the release word for word, and the
            release's `zoo.yaml` says what the project's says.
        settings: see `TrainSettings`.
        device: torch device.
        dtype: of the base weights; the adapter is trained in float32.
        tracker: an experiment tracker that is told the course.
        disk: a folder for files of prefixes that memory has no room for, removed at the end; None makes none.
        progress: told about each stage.

    Raises:
        UsageError: `out` is not empty; ZM001, a name or version that `zoo.yaml` does not take; ZD004, an
            unfinished run has other settings; or ZD007, another run is at it.
        MissingExtraError: the tracker is not installed.
        ZooError: see `plan_training` and `optimise`.
    """
    target = Path(out).absolute()
    check_target(target)
    if tracker:
        tracking.check_tracker(tracker)
    plan = plan_training(
        data,
        invocation_text=invocation_text,
        base=base,
        position=position,
        settings=settings,
        project=project,
    )
    about = {"name": name, "version": version, "license": license, "description": description}
    spec = release_spec(plan, about, Path(data).name, name=target.name)
    peers = peers_here(device)
    run = Run(device=device, dtype=dtype, tracker=tracker, progress=progress, peers=peers)
    with claimed_together(target, peers) as work:
        restore_threads(work)
        model = new_adapter(plan, device=peers.device(device), dtype=dtype)
        stores = Stores.of(model, plan, peers, disk=disk)
        return train_adapter(model, plan, stores, spec=spec, target=target, work=work, run=run)


def train_adapter(
    model: "PeftModel",
    plan: TrainingPlan,
    stores: Stores,
    *,
    spec: ReleaseSpec,
    target: Path,
    work: Path,
    run: Run,
) -> Trained:
    """Trains a fresh adapter on a model and writes its folder.

    Args:
        model: with the adapter that `new_adapter` made.
        plan: what to train.
        stores: its samples.
        spec: the release's `zoo.yaml`.
        target: the folder to make.
        work: where checkpoints go.
        run: where and how.
    """
    optimised = fit(model, plan, stores, name=target.name, folder=target.parent, work=work, run=run)
    return finish(model, plan, stores, optimised, spec=spec, target=target, run=run)


def finish(
    model: "PeftModel",
    plan: TrainingPlan,
    stores: Stores,
    optimised: Optimised,
    *,
    spec: ReleaseSpec,
    target: Path,
    run: Run,
) -> Trained:
    """Measures a trained adapter and writes its folder.

    Args:
        model: with the adapter.
        plan: what was trained.
        stores: its samples.
        optimised: how it went.
        spec: the release's `zoo.yaml`.
        target: the folder to make.
        run: where and how.
    """
    behaviour = measure(plan, stores, run.progress)
    shared = {} if plan.settings.shared_a is None else {"shared_a_sha256": digest_a(model)}
    training = training_record(plan, optimised, dtype=run.dtype, device=run.device, more=shared)
    plot = run.peers.first and write_outcome(
        model, plan, optimised, spec=spec, target=target, training=training, behaviour=behaviour
    )
    return Trained(
        folder=target,
        training=training,
        behaviour=behaviour,
        losses=optimised.losses,
        looks=optimised.looks,
        plot=plot or "",
    )


def release_spec(plan: TrainingPlan, about: Mapping[str, str], data: str, *, name: str) -> ReleaseSpec:
    """The `zoo.yaml` of a training: the project's, with what was given besides.

    Args:
        plan: of the training.
        about: name, version, license, description; what is empty is the project's.
        data: name of the data file, where the project does not say what it is trained on.
        name: of the release where nobody says it.

    Raises:
        SpecError: ZM001, a name or version that it does not take.
    """
    own = plan.project.spec
    content = {
        "name": name,
        "training_data": [data],
        **(own.model_dump(mode="json", exclude_defaults=True) if own else {}),
        **{key: value for key, value in about.items() if value},
        "base": plan.base.reference().model_dump(),
        "invocation": {"text": plan.invocation.text, "position": plan.invocation.position},
    }
    return check(content, ReleaseSpec, name="zoo.yaml", code="ZM001")


def new_adapter(plan: TrainingPlan, *, device: str, dtype: Dtype) -> "PeftModel":
    """The base model with a fresh adapter on it, its initial weights from the seed (and the base) alone."""
    import torch
    from peft import LoraConfig, get_peft_model

    settings = plan.settings
    torch.manual_seed(settings.recipe.seed)
    plain = settings.kind == "lora"
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # annotated int, computed as a float
        target_modules=list(settings.targets),
        alora_invocation_tokens=None if plain else list(plan.invocation.ids),
    )
    load = load_in_4_bits if settings.load_in_4_bits else load_model
    model = get_peft_model(load(plan.base, dtype=dtype, device=device), config)
    initialise(model, settings.init, seed=settings.recipe.seed, shared_a=settings.shared_a)
    return model.eval()
