from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import Write, task
from zoo.errors import UsageError
from zoo.models import BaseModel, load_model
from zoo.training import initial
from zoo.training.initial import check, digest_a
from zoo.training.optimise import Recipe
from zoo.training.plan import TrainingPlan, TrainSettings, plan_training
from zoo.training.train import new_adapter

IDS = torch.tensor([[5, 9, 12, 30, 7, 21, 40]])
Make = Callable[..., PeftModel]


@pytest.fixture
def make(tiny_base: BaseModel, write: Write) -> Make:
    data = write(task(12))

    def fresh(**changes: Any) -> PeftModel:
        seed = changes.pop("seed", 0)
        settings = TrainSettings(recipe=Recipe(steps=2, seed=seed), rank=4, alpha=8.0, **changes)
        plan: TrainingPlan = plan_training(
            data, invocation_text=INVOCATION_TEXT, base=str(tiny_base.folder), settings=settings
        )
        return new_adapter(plan, device="cpu", dtype="float32")

    return fresh


def factors(model: PeftModel) -> list[tuple[Tensor, Tensor, Any]]:
    return [
        (layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach(), layer)
        for _, layer in initial._layers(model)
    ]


def everywhere(model: PeftModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, alora_offsets=[IDS.shape[1]]).logits


@pytest.mark.parametrize("name", ["kaiming", "orthogonal", "pissa", "olora"])
def test_every_initialisation_starts_as_the_base_and_leaves_it_alone(
    tiny_base: BaseModel, make: Make, name: initial.Name
) -> None:
    base = load_model(tiny_base)
    model = make(init=name)
    for key, weight in model.get_base_model().state_dict().items():
        if "lora_" not in key:
            assert torch.equal(weight, base.state_dict()[key.replace(".base_layer", "")])
    with torch.no_grad():
        expected = base(input_ids=IDS).logits
    torch.testing.assert_close(everywhere(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_control_without_the_fixed_half_the_start_is_not_the_base(
    tiny_base: BaseModel, make: Make, name: initial.Name
) -> None:
    model = make(init=name)
    for _, b, _ in factors(model):
        b[:, 2:] = 0.0
    with torch.no_grad():
        expected = load_model(tiny_base)(input_ids=IDS).logits
    assert (everywhere(model) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_the_trained_half_starts_where_peft_starts(
    tiny_base: BaseModel, make: Make, name: initial.Name
) -> None:
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj"]
    wanted: Any = name
    config = LoraConfig(
        r=2, lora_alpha=4, target_modules=targets, init_lora_weights=wanted, task_type="CAUSAL_LM"
    )
    theirs = get_peft_model(load_model(tiny_base), config)
    for (a, b, layer), (path, other) in zip(factors(make(init=name)), initial._layers(theirs), strict=True):
        assert layer.scaling["default"] == other.scaling["default"] == 2.0
        one, two = b[:, :2] @ a[:2], other.lora_B["default"].weight @ other.lora_A["default"].weight
        torch.testing.assert_close(one, two.detach(), msg=path, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_only_the_first_half_gets_gradients(make: Make, name: initial.Name) -> None:
    model = make(init=name)
    model(input_ids=IDS, alora_offsets=[IDS.shape[1]]).logits.square().sum().backward()
    for _, layer in initial._layers(model):
        a, b = layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad
        assert bool(a[:2].any())
        assert bool(b[:, :2].any())
        assert not bool(a[2:].any())
        assert not bool(b[:, 2:].any())


def test_orthogonal_rows_are_orthonormal_and_a_function_of_the_seed(make: Make) -> None:
    one, again, other = (factors(make(init="orthogonal", seed=seed)) for seed in (0, 0, 1))
    for (a, b, _), (same, _, _), (different, _, _) in zip(one, again, other, strict=True):
        torch.testing.assert_close(a @ a.T, torch.eye(4), atol=1e-5, rtol=0)
        assert not bool(b.any())
        assert torch.equal(a, same)
        assert not torch.equal(a, different)


@pytest.mark.parametrize("name", ["kaiming", "orthogonal"])
def test_a_shared_a_hangs_on_its_seed_alone_and_is_not_trained(make: Make, name: initial.Name) -> None:
    first = make(init=name, shared_a=7, seed=0)
    second = make(init=name, shared_a=7, seed=5)
    other = make(init=name, shared_a=8, seed=0)
    assert digest_a(first) == digest_a(second) != digest_a(other)
    one_module = dict(initial._layers(make(init=name, shared_a=7, targets=("k_proj",))))
    for path, layer in initial._layers(first):
        a = layer.lora_A["default"].weight
        assert not a.requires_grad
        assert layer.lora_B["default"].weight.requires_grad
        if path in one_module:
            assert torch.equal(a, one_module[path].lora_A["default"].weight)
    assert len(one_module) == 2


def test_kaiming_shared_has_the_spread_of_pefts(make: Make) -> None:
    mine = torch.cat([a.flatten() for a, _, _ in factors(make(shared_a=3))])
    pefts = torch.cat([a.flatten() for a, _, _ in factors(make())])
    assert float(mine.std()) == pytest.approx(float(pefts.std()), rel=0.1)
    assert float(mine.abs().max()) <= 32**-0.5


@pytest.mark.parametrize(
    "change",
    [{"rank": 5}, {"optimizer": "lora-rite"}, {"weight_decay": 0.1}, {"shared_a": 1}],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_go_together_is_refused(change: dict[str, Any]) -> None:
    fine: dict[str, Any] = {"rank": 4, "optimizer": "adamw", "weight_decay": 0.0, "shared_a": None}
    check("pissa", **fine)
    check("orthogonal", **{**fine, **change})
    with pytest.raises(UsageError) as caught:
        check("pissa", **{**fine, **change})
    assert caught.value.code == "ZD006"


def test_a_plan_refuses_it_before_a_model_is_loaded(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    settings = TrainSettings(rank=5, init="olora")
    with pytest.raises(UsageError, match="odd"):
        plan_training(
            write(task(12)), invocation_text=INVOCATION_TEXT, base=str(tiny_base.folder), settings=settings
        )
