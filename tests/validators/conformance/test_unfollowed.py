"""What the reference would compute wrongly without a word, it refuses, naming the module."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.validators.conformance.bench import build_base, invocation_ids
from zoo.adapter import AdapterRepo
from zoo.errors import RefusedError
from zoo.models import BaseModel, load_model
from zoo.validators.conformance.low_rank import LowRank
from zoo.validators.conformance.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor, nn

Make = Callable[..., Path]
QUERY = "model.layers.0.self_attn.q_proj"
DOWN = "model.layers.1.mlp.down_proj"


def update(inputs: int, outputs: int) -> LowRank:
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(4, inputs, generator=generator), torch.randn(outputs, 4, generator=generator)
    return LowRank(a=a, b=b, bias=None, scale=0.5)


def run(reference: Reference, rows: int = 1) -> "Tensor":
    import torch

    ids = torch.tensor([[1, 5, 6, 7]] * rows)
    return reference.logits(ids, torch.tensor([[False, False, True, True]] * rows))


def test_a_module_that_is_never_called(llama: BaseModel) -> None:
    model: Any = load_model(llama)
    reference = Reference(model, {QUERY: update(32, 32)})
    bypass(model.get_submodule(QUERY))
    with pytest.raises(RefusedError, match=f"{QUERY} is called 0 times") as refused:
        run(reference)
    assert refused.value.code == "ZR001"
    assert not any(module._forward_hooks for module in model.modules())


def bypass(module: "nn.Module") -> None:
    """Makes calls of a module run its `forward` alone, as a fused kernel does: no hook is run."""

    class Fused(type(module)):  # type: ignore[misc]
        def __call__(self, x: "Tensor") -> "Tensor":
            return self.forward(x)

    module.__class__ = Fused


def test_a_module_that_is_called_twice(llama: BaseModel) -> None:
    model: Any = load_model(llama)
    model.model.layers[1] = model.model.layers[0]  # one layer's weights used by two
    with pytest.raises(RefusedError, match=f"{QUERY} is called 2 times") as refused:
        run(Reference(model, {QUERY: update(32, 32)}))
    assert refused.value.code == "ZR001"


def test_one_module_under_two_names(llama: BaseModel) -> None:
    model: Any = load_model(llama)
    model.model.layers[1].self_attn.q_proj = model.model.layers[0].self_attn.q_proj
    other = QUERY.replace("layers.0", "layers.1")
    with pytest.raises(RefusedError, match="is called 2 times"):
        run(Reference(model, {QUERY: update(32, 32), other: update(32, 32)}))


def test_tokens_in_another_order_or_number(llama: BaseModel) -> None:
    model: Any = load_model(llama)
    inner = model.model.layers[1].mlp
    original = inner.forward
    reference = Reference(model, {DOWN: update(64, 32)})
    run(reference, rows=2)
    inner.forward = lambda x: original(x.transpose(0, 1)).transpose(0, 1)  # tokens first
    with pytest.raises(RefusedError, match=rf"{DOWN} sees tokens of shape \[4, 2\], not \[2, 4\]"):
        run(reference, rows=2)
    inner.forward = lambda x: original(x[:, -1:]).expand(x.shape)  # only some tokens, as an expert does
    with pytest.raises(RefusedError, match=rf"{DOWN} sees tokens of shape \[2, 1\]"):
        run(reference, rows=2)


def test_flattened_tokens_are_followed(llama: BaseModel) -> None:
    import torch

    model: Any = load_model(llama)
    inner = model.model.layers[1].mlp
    original = inner.forward
    reference = Reference(model, {DOWN: update(64, 32)})
    expected = run(reference, rows=2)
    inner.forward = lambda x: original(x.flatten(0, 1)).view(x.shape)
    assert torch.allclose(run(reference, rows=2), expected, atol=1e-6)


def test_a_module_called_by_keyword_is_followed(llama: BaseModel) -> None:
    import torch

    model: Any = load_model(llama)
    reference = Reference(model, {DOWN: update(64, 32)})
    expected = run(reference)
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(input=mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))
    assert torch.equal(run(reference), expected)


def test_the_shared_expert_of_a_mixture_is_followed(tmp_path: Path) -> None:
    """PEFT cannot run an aLoRA there (it is given flattened tokens): compared with merged weights instead."""
    import torch

    model: Any = load_model(build_base(tmp_path / "base", "qwen2_moe"))
    path = "model.layers.1.mlp.shared_expert.down_proj"
    reference = Reference(model, {path: update(32, 32)})
    found, base = run(reference, rows=2), model(torch.tensor([[1, 5, 6, 7]] * 2)).logits
    with torch.no_grad():
        model.get_submodule(path).weight += 0.5 * reference.updates[path].b @ reference.updates[path].a
        merged = model(torch.tensor([[1, 5, 6, 7]] * 2)).logits
    # the last layer's MLP: no other token sees it, so that the merged model is right after the start
    assert torch.equal(found[:, :2], base[:, :2])
    assert (found[:, 2:] - merged[:, 2:]).abs().max() < 1e-5
    assert (found[:, 2:] - base[:, 2:]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["", ".gate_up_proj", ".base_layer", ".0.w1"])
def test_experts_in_three_dimensions_are_refused(tmp_path: Path, name: str) -> None:
    model = load_model(build_base(tmp_path / "base", "mixtral"))
    path = f"model.layers.0.mlp.experts{name}"
    with pytest.raises(RefusedError, match=r"MixtralExperts keeps its experts in 3-D parameters") as refused:
        Reference(model, {path: update(32, 64)})
    assert path in str(refused.value)
    assert refused.value.code == "ZR001"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("model.embed_tokens", "is a Embedding|is an Embedding"),
        ("model.norm", "RMSNorm"),
        ("model.layers.7.self_attn.q_proj", "does not have"),
        ("model.layers.0.self_attn.k_proj", "maps 32 features to 16, its update 32 to 32"),
    ],
)
def test_modules_that_do_not_fit_are_refused(llama: BaseModel, path: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        Reference(load_model(llama), {path: update(32, 32)})
    assert refused.value.code == "ZR001"
    assert path in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("target_parameters", ["mlp.experts.gate_up_proj"]), ("layer_replication", [[0, 2], [1, 2]])],
)
def test_configs_for_another_model_are_refused(
    make_alora: Make, llama: BaseModel, key: str, value: object
) -> None:
    import json

    folder = make_alora()
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    with pytest.raises(RefusedError, match=key) as refused:
        Reference.from_folder(load_model(llama), AdapterRepo.open(folder))
    assert refused.value.code == "ZR001"


@pytest.mark.parametrize("part", ["lora_magnitude_vector", "lora_embedding_A", "lora_A.default.weight"])
def test_parts_of_another_kind_of_lora_are_refused(make_alora: Make, llama: BaseModel, part: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_alora(alora_invocation_tokens=invocation_ids(llama))
    weights = load_file(folder / "adapter_model.safetensors")
    weights[f"base_model.model.{QUERY}.{part}"] = torch.ones(32)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RefusedError, match=f"{part} is no part of an activated LoRA"):
        Reference.from_folder(load_model(llama), AdapterRepo.open(folder))


def test_the_factors_are_settled_once(llama: BaseModel) -> None:
    import torch

    single, double = load_model(llama), load_model(llama).double()
    given = {QUERY: update(32, 32)}
    assert Reference(single, given).updates[QUERY].a.data_ptr() == given[QUERY].a.data_ptr()
    assert Reference(double, given).updates[QUERY].b.dtype is torch.float64
    half = load_model(llama, dtype="bfloat16")
    assert Reference(half, given).updates[QUERY].b.dtype is torch.float32
