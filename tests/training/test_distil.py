from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.training.conftest import Write, task
from zoo.models import BaseModel, load_model
from zoo.prompts import Invocation, Prompter
from zoo.training.dataset import Encoded, encode, read_dataset
from zoo.training.distil import DistilSettings, recover
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings

SETTINGS = DistilSettings(
    recipe=Recipe(steps=60, batch=8, micro_batch=8, learning_rate=1e-2, warmup=4, check_every=5),
    data=DataSettings(held_out=0.25, validation=0.2),
)


@pytest.fixture
def relabelled(invocation: Invocation, make_adapter: Callable[..., Path]) -> Path:
    torch.manual_seed(0)
    return make_adapter(
        "relabelled",
        alora_invocation_tokens=list(invocation.ids),
        r=16,
        lora_alpha=16,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        strength=0.5,
    )


def test_recovery_comes_closer_to_the_teacher_and_keeps_the_best_step(
    tiny_base: BaseModel, invocation: Invocation, prompter: Prompter, relabelled: Path, write: Write
) -> None:
    data = write(task(24))
    before = load_file(relabelled / "adapter_model.safetensors")
    done = recover(base=tiny_base, relabelled=relabelled, invocation=invocation, data=data, settings=SETTINGS)
    assert done.training.method == "distillation"
    assert done.training.settings["best_step"] > 0
    assert set(done.behaviour.accuracy) == {"base", "lora", "relabelled", "recovered"}
    assert done.behaviour.agreement["lora"] == 1.0
    assert done.behaviour.samples == 12
    assert done.weights.keys() == before.keys()
    assert all(done.weights[name].shape == before[name].shape for name in before)

    samples = encode(read_dataset(data).samples, prompter, invocation, name="d", max_tokens=500)
    teacher = answers(tiny_base, relabelled, samples, None, whole=True)
    start = answers(tiny_base, relabelled, samples, None, whole=False)
    end = answers(tiny_base, relabelled, samples, done.weights, whole=False)
    assert divergence(teacher, end) < 0.5 * divergence(teacher, start)
    assert done.behaviour.agreement["recovered"] > done.behaviour.agreement["relabelled"]
    assert divergence(teacher, start) > 1e-3


def answers(
    base: BaseModel,
    folder: Path,
    samples: list[Encoded],
    weights: dict[str, torch.Tensor] | None,
    *,
    whole: bool,
) -> list[torch.Tensor]:
    """Log-probabilities of the answers in PEFT's own full pass, adapted everywhere or where PEFT says."""
    from peft import set_peft_model_state_dict

    model = PeftModel.from_pretrained(load_model(base), folder)
    if weights:
        set_peft_model_state_dict(model, weights)
    found = []
    for sample in samples:
        ids = torch.tensor([sample.prefix + sample.lead + sample.answer])
        given = {"alora_offsets": [ids.shape[1]]} if whole else {}
        with torch.no_grad():
            logits = model(input_ids=ids, **given).logits[0, -len(sample.answer) - 1 : -1]
        found.append(logits.log_softmax(-1))
    return found


def divergence(teacher: list[torch.Tensor], student: list[torch.Tensor]) -> float:
    pairs = zip(teacher, student, strict=True)
    return float(torch.stack([(t.exp() * (t - s)).sum(-1).mean() for t, s in pairs]).mean())


def test_without_steps_that_help_the_relabelled_weights_stay(
    tiny_base: BaseModel, invocation: Invocation, relabelled: Path, write: Write
) -> None:
    """A rate that ruins the weights: the best step is the start, and the result is what was given."""
    ruinous = replace(
        SETTINGS,
        recipe=replace(
            SETTINGS.recipe, steps=6, learning_rate=50.0, warmup=0, decay="constant", clip=1e9, check_every=6
        ),
    )
    done = recover(
        base=tiny_base, relabelled=relabelled, invocation=invocation, data=write(task(24)), settings=ruinous
    )
    assert done.training.settings["best_step"] == 0
    before = load_file(relabelled / "adapter_model.safetensors")
    assert all(torch.equal(done.weights[name], before[name].float()) for name in before)
    assert done.behaviour.agreement["recovered"] == done.behaviour.agreement["relabelled"]
