"""transformers' Trainer and TRL's SFTTrainer on whole prompts, given exactly what the other arms are given.

They are favoured where there is a choice: samples are tokenised beforehand, nothing is evaluated or saved on
the way, nothing is reported, and TRL's checkpointing, which it has on by default, is off.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.bench.arms import BY_NAME
from zoo.bench.job import Job

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.dataset import Encoded
    from zoo.training.optimise import Recipe
    from zoo.training.plan import TrainingPlan

IGNORED = -100


def prepared(arm: str) -> Callable[..., list[float]]:
    """What trains as an arm does, its libraries imported."""
    for name in ("transformers", *BY_NAME[arm].needs):
        import_module(name)
    if arm == "trl":
        return _by_trl
    return _by_checkpointing if arm == "trainer-checkpointing" else _by_trainer


def in_order(samples: "Sequence[Encoded]", recipe: "Recipe") -> "list[Encoded]":
    """The samples of all steps, one after the other, as `zoo train` draws them: every arm sees this order."""
    from zoo.training.deal import Deal

    deal = Deal.of([sample.prefix for sample in samples])
    return [samples[row] for step in range(1, recipe.steps + 1) for row, _ in recipe.rows(step, deal)]


def _by_trainer(model: "PeftModel", plan: "TrainingPlan", job: Job, folder: Path, told: Any) -> list[float]:
    return _train(model, plan, job, folder, told, checkpointing=False)


def _by_checkpointing(
    model: "PeftModel", plan: "TrainingPlan", job: Job, folder: Path, told: Any
) -> list[float]:
    model.enable_input_require_grads()  # the base's inputs have none to hand on
    return _train(model, plan, job, folder, told, checkpointing=True)


def _train(
    model: "PeftModel", plan: "TrainingPlan", job: Job, folder: Path, told: Any, *, checkpointing: bool
) -> list[float]:
    from transformers import Trainer, TrainingArguments

    recipe = plan.settings.recipe
    data = [
        {
            "input_ids": [*s.prefix, *s.lead, *s.answer],
            "labels": [IGNORED] * len(s.prefix + s.lead) + list(s.answer),
        }
        for s in in_order(plan.parts.train, recipe)
    ]
    arguments = TrainingArguments(
        **_arguments(job, recipe, folder),
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        remove_unused_columns=False,
    )
    made: Any = Trainer
    return _run(made(model=model, args=arguments, train_dataset=data, data_collator=_padded,
                     optimizers=_optimizers(model, recipe), callbacks=[_callback(told)]))  # fmt: skip


def _by_trl(model: "PeftModel", plan: "TrainingPlan", job: Job, folder: Path, told: Any) -> list[float]:
    from transformers import AutoTokenizer

    trl: Any = import_module("trl")
    dataset: Any = import_module("datasets").Dataset
    recipe = plan.settings.recipe
    tokenizer = AutoTokenizer.from_pretrained(plan.base.folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    data = dataset.from_list(
        [
            {
                "input_ids": [*s.prefix, *s.lead, *s.answer],
                "completion_mask": [0] * len(s.prefix + s.lead) + [1] * len(s.answer),
            }
            for s in in_order(plan.parts.train, recipe)
        ]
    )
    arguments = trl.SFTConfig(
        **_arguments(job, recipe, folder),
        gradient_checkpointing=False,
        completion_only_loss=True,
        max_length=None,
        packing=False,
    )
    return _run(trl.SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer,
                           optimizers=_optimizers(model, recipe), callbacks=[_callback(told)]))  # fmt: skip


def _arguments(job: Job, recipe: "Recipe", folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trainer"),
        "max_steps": recipe.steps,
        "per_device_train_batch_size": recipe.micro_batch,
        "gradient_accumulation_steps": max(1, recipe.batch // recipe.micro_batch),
        "train_sampling_strategy": "sequential",
        "max_grad_norm": recipe.clip,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,  # the base has its dtype already, the adapter is float32, as in the other arms
        "use_cpu": job.device == "cpu",
        "dataloader_pin_memory": False,
        "seed": recipe.seed,
    }


def _optimizers(model: "PeftModel", recipe: "Recipe") -> Any:
    """The optimiser and schedule of the other arms: Trainer's own warm-up begins at rate 0."""
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda done: recipe.rate(min(done + 1, recipe.steps)) / recipe.learning_rate
    )
    return optimizer, schedule


def _padded(batch: list[dict[str, list[int]]]) -> "dict[str, Tensor]":
    import torch

    width = max(len(one["input_ids"]) for one in batch)

    def rows(name: str, filler: int) -> "Tensor":
        return torch.tensor([[*one[name], *[filler] * (width - len(one[name]))] for one in batch])

    mask = [[1] * len(one["input_ids"]) + [0] * (width - len(one["input_ids"])) for one in batch]
    return {
        "input_ids": rows("input_ids", 0),
        "labels": rows("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }


def _run(trainer: Any) -> list[float]:
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def _callback(told: Any) -> Any:
    from transformers import TrainerCallback

    class Tell(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            told(state.global_step, state.max_steps, "")

    return Tell()
