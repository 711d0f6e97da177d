"""Which modules a config targets, against PEFT's own matcher."""

import itertools

import pytest
from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists

from zoo.models import BaseModel
from zoo.specs.adapter_config import AdapterConfig
from zoo.validators.targets import shape_in, targeted_modules, targets

PATHS = (
    "model.layers.0.self_attn.q_proj", "model.layers.11.self_attn.q_proj", "model.layers.1.mlp.down_proj",
    "model.layers.1.self_attn.my_q_proj", "transformer.h.1.attn.c_attn", "h.1.attn.c_attn", "lm_head",
    "model.layers.2.mlp.experts.1.q_proj", "q_proj",
)  # fmt: skip
SETTINGS = (
    {"target_modules": ["q_proj"]},
    {"target_modules": ["self_attn.q_proj", "c_attn"]},
    {"target_modules": ["model.layers.1.mlp.down_proj", "lm_head"]},
    {"target_modules": ["q_proj", "down_proj"], "exclude_modules": ["layers.0.self_attn.q_proj"]},
    {"target_modules": ["q_proj", "down_proj", "c_attn"], "layers_to_transform": [1, 11]},
    {"target_modules": ["q_proj", "c_attn"], "layers_to_transform": 1, "layers_pattern": "h"},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 2], "layers_pattern": ["h", "layers"]},
    {"target_modules": ["q_proj"], "layers_to_transform": []},
)


@pytest.mark.parametrize(("setting", "path"), list(itertools.product(SETTINGS, PATHS)))
def test_the_same_modules_as_peft(setting: dict[str, object], path: str) -> None:
    theirs = check_target_module_exists(LoraConfig(**setting), path)  # type: ignore[arg-type]
    found = type(theirs).__name__ != "_ExcludedModule" and bool(theirs)
    assert targets(AdapterConfig.model_validate({"peft_type": "LORA", **setting}), path) is found


def test_all_linear_is_every_linear_but_the_head(tiny_base: BaseModel) -> None:
    config = AdapterConfig(peft_type="LORA", target_modules="all-linear")
    assert len(targeted_modules(config, tiny_base)) == 2 * 7
    assert not targets(config, "lm_head")


def test_shapes_of_modules_that_the_checkpoint_spells_otherwise(tiny_base: BaseModel) -> None:
    assert shape_in(tiny_base, "model.layers.0.self_attn.k_proj") == (16, 32)
    assert shape_in(tiny_base, "outer.model.layers.0.self_attn.k_proj") == (16, 32)
    assert shape_in(tiny_base, "lm_head") == (tiny_base.vocabulary, 32)  # tied: no tensor on disk
    assert shape_in(tiny_base, "k_proj") is None  # which one?
    assert shape_in(tiny_base, "model.layers.0.self_attn.x_proj") is None
