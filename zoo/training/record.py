"""What a training was: what a resumed run must agree on, what the lock keeps, and how to do it again."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from zoo.errors import SpecError
from zoo.models import Dtype
from zoo.provenance import package_versions
from zoo.specs.lock import TrainingRecord
from zoo.training.course import Optimised
from zoo.training.distil_settings import DistilSettings
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings, Parts
from zoo.training.peers import process_count
from zoo.training.plan import TrainingPlan, TrainSettings

PACKAGES = ("alora-zoo", "torch", "transformers", "peft", "safetensors", "tokenizers")


def identity(plan: TrainingPlan, dtype: Dtype, device: str) -> dict[str, Any]:
    """Everything besides the recipe that decides the weights, as JSON values."""
    options, contract = asdict(plan.settings), plan.project.contract
    del options["recipe"]
    options["targets"] = list(plan.settings.targets)
    options["data"]["eval_data"] = plan.parts.eval_sha256
    return {
        **options,
        "data_sha256": plan.parts.sha256,
        "base": plan.base.id,
        "base_weights": plan.base.revision or plan.base.weights_sha256,
        "base_dtype": dtype,
        "device": device,
        "invocation": list(plan.invocation.ids),
        **({"io_sha256": contract.sha256} if contract else {}),
        **({"adapter": plan.adapter, "pooled": list(plan.parts.pooled)} if plan.parts.pooled else {}),
    }


def environment() -> dict[str, Any]:
    """What besides the settings decides how sums are rounded: repeat a run where all of it is the same."""
    import torch

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": process_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def training_record(
    plan: TrainingPlan, optimised: Optimised, *, dtype: Dtype, device: str, more: Mapping[str, Any]
) -> TrainingRecord:
    """The record of a finished run, complete enough to repeat it bit for bit on the same machine.

    Args:
        plan: what was trained.
        optimised: how it went.
        dtype: of the base weights.
        device: torch device.
        more: what only the finished run knows.
    """
    recipe = plan.settings.recipe
    looks = dict(optimised.looks)
    return TrainingRecord(
        method="supervised",
        data_sha256=plan.parts.sha256,
        samples=len(plan.parts.train),
        steps=len(optimised.losses),
        seed=recipe.seed,
        settings={
            **identity(plan, dtype, device),
            "recipe": asdict(recipe),
            "best_step": optimised.best_step,
            "validation": dict(looks[optimised.best_step]),
            "environment": environment(),
            **more,
        },
        final_loss=optimised.losses[-1],
        versions=package_versions(PACKAGES),
    )


def distillation_record(
    parts: Parts, settings: DistilSettings, optimised: Optimised, *, dtype: Dtype, more: Mapping[str, Any]
) -> TrainingRecord:
    """The record of a finished recovery.

    Args:
        parts: the data.
        settings: how.
        optimised: how it went.
        dtype: of the base weights.
        more: what only the finished run knows.
    """
    options = asdict(settings)
    options["data"]["eval_data"] = parts.eval_sha256
    return TrainingRecord(
        method="distillation",
        data_sha256=parts.sha256,
        samples=len(parts.train),
        steps=len(optimised.losses),
        seed=settings.recipe.seed,
        settings={
            **options,
            "base_dtype": dtype,
            "best_step": optimised.best_step,
            "validation": dict(dict(optimised.looks)[optimised.best_step]),
            "environment": environment(),
            **more,
        },
        final_loss=optimised.losses[-1],
        versions=package_versions(PACKAGES),
    )


def settings_from(record: TrainingRecord, *, eval_data: Path | None = None) -> TrainSettings:
    """The settings of a recorded training, to do it again.

    Args:
        record: from a lock.
        eval_data: the evaluation data, if it was measured on a file of its own: the lock has its digest.

    Raises:
        SpecError: the record is not of a supervised training, or of a zoo that recorded less.
    """
    given = record.settings
    if given.get("pooled"):
        raise SpecError(
            "this adapter was trained together with others, whose data decided what was held out",
            hint="give zoo train the same --adapters and data again, and compare the folders",
        )
    given = {"load_in_4_bits": False, **given}  # what older records do not say
    try:
        recipe = Recipe(**{one.name: given["recipe"][one.name] for one in fields(Recipe)})
        chosen = {one.name: given[one.name] for one in fields(TrainSettings)}
        data = DataSettings(**{**chosen["data"], "eval_data": eval_data})
        return TrainSettings(
            **{**chosen, "recipe": recipe, "data": data, "targets": tuple(chosen["targets"])}
        )
    except (KeyError, TypeError) as error:
        raise SpecError(
            f"the lock's training record cannot be repeated: it lacks {error}",
            hint="train with the options it has, by hand",
        ) from None
