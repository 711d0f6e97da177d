"""What a training leaves behind: a release folder, or a plain LoRA's folder that is no release."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.adapter import WEIGHTS_NAME
from zoo.converters.release_folder import adapter_config, write_release
from zoo.layouts import CONFIG_NAME
from zoo.pictures import evaluation
from zoo.specs.lock import BehaviourRecord, TrainingRecord
from zoo.specs.release import ReleaseSpec
from zoo.staging import staged_folder
from zoo.training import plot
from zoo.training.course import Optimised
from zoo.training.distil import weights
from zoo.training.plan import TrainingPlan

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

RECORD_NAME = "training.json"


def write_outcome(
    model: "PeftModel",
    plan: TrainingPlan,
    optimised: Optimised,
    *,
    spec: ReleaseSpec,
    target: Path,
    training: TrainingRecord,
    behaviour: BehaviourRecord,
) -> str:
    """Writes the folder of a finished training.

    Args:
        model: with the trained adapter.
        plan: what was trained.
        optimised: how it went.
        spec: the release's `zoo.yaml`.
        target: the folder to make.
        training: for the lock.
        behaviour: for the lock.

    The author's own files are taken over word for word.

    Returns:
        What became of the plot: its path, or why there is none.
    """
    settings = plan.settings
    with staged_folder(target) as stage:
        if drawn := plot.can_draw():
            plot.draw(
                stage / plot.PLOT_NAME,
                name=f"{spec.name} on {plan.base.id}",
                losses=optimised.losses,
                looks=optimised.looks,
                best_step=optimised.best_step,
                training=training,
            )
            if settings.kind != "lora":
                evaluation.draw(stage / evaluation.EVALUATION_NAME, behaviour, name=spec.name)
        for name, content in plan.project.files.items():
            (stage / name).write_bytes(content)
        if settings.kind == "lora":
            _write_plain(stage, plan, folded(model, plan), training, behaviour)
        else:
            write_release(
                stage,
                weights=folded(model, plan),
                rank=settings.rank,
                targets=settings.targets,
                spec=spec,
                base=plan.base,
                invocation_ids=plan.invocation.ids,
                training=training,
                behaviour=behaviour,
            )
    return str(target / plot.PLOT_NAME) if drawn else plot.MISSING


def folded(model: "PeftModel", plan: TrainingPlan) -> "dict[str, Tensor]":
    """The trained weights with their scale in B, by PEFT file key."""
    scale = plan.settings.alpha / plan.settings.rank
    return {name: tensor * scale if "lora_B" in name else tensor for name, tensor in weights(model).items()}


def _write_plain(
    stage: Path,
    plan: TrainingPlan,
    content: "dict[str, Tensor]",
    training: TrainingRecord,
    behaviour: BehaviourRecord,
) -> None:
    """A LoRA as PEFT reads it; without `zoo.yaml` and lock it is no release, and nothing publishes it."""
    from safetensors.torch import save_file

    settings = plan.settings
    config = adapter_config(rank=settings.rank, targets=settings.targets, base=plan.base, invocation_ids=())
    del config["alora_invocation_tokens"]
    record = {
        "training": training.model_dump(mode="json"),
        "behaviour": behaviour.model_dump(mode="json"),
    }
    for name, document in ((CONFIG_NAME, config), (RECORD_NAME, record)):
        (stage / name).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tensors = {name: tensor.contiguous() for name, tensor in sorted(content.items())}
    save_file(tensors, stage / WEIGHTS_NAME, metadata={"format": "pt"})
    (stage / WEIGHTS_NAME).chmod(0o644)  # safetensors makes it private to the user
