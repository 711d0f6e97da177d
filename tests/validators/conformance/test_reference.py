import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.validators.conformance.bench import SAMPLES, context_of
from zoo import peft_model
from zoo.activation import active_mask
from zoo.adapter import AdapterRepo
from zoo.errors import DefectError, RefusedError, UndecidedError
from zoo.models import BaseModel, Dtype, load_model
from zoo.validators.conformance.kv import empty_cache, filled_cache, first_difference, prefix_kv
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.stepping import in_chunks, padded, positions, run_base

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

Make = Callable[..., Path]


def reference_of(folder: Path, base: BaseModel, dtype: Dtype = "float32") -> Reference:
    return Reference.from_folder(load_model(base, dtype=dtype), AdapterRepo.open(folder))


def prompt_ids(folder: Path, base: BaseModel, index: int = 1) -> tuple[list[int], int]:
    prompt = context_of(folder, base, samples=SAMPLES).prompts[index]
    return list(prompt.ids), prompt.start


def by_hand(reference: Reference, ids: list[int], start: int) -> "Tensor":
    """The definition once more, without hooks: each token's own low-rank update put into a merged copy.

    Two runs of one model, of which the second has W + scale * B A everywhere; its attention sees the first
    run's keys and values before the start.
    """
    import copy

    import torch

    merged = copy.deepcopy(reference.model)
    with torch.no_grad():
        for path, update in reference.updates.items():
            merged.get_submodule(path).weight += update.scale * (update.b @ update.a)  # type: ignore[operator]
    cache = empty_cache()
    row = torch.tensor([ids])
    before = run_base(reference.model, row[:, :start], cache)
    after = run_base(merged, row[:, start:], cache)
    return torch.cat([before, after], dim=1)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"layers.0.self_attn.q_proj": 64}, "rank_pattern": {"v_proj": 2}},
        {"target_modules": ["o_proj", "gate_proj", "down_proj"]},
    ],
    ids=["plain", "rslora", "patterns", "o and mlp"],
)
def test_the_reference_is_a_merged_model_over_the_bases_prefix(
    make_alora: Make, llama: BaseModel, settings: dict[str, Any]
) -> None:
    import torch

    folder = make_alora(**settings)
    reference = reference_of(folder, llama)
    ids, start = prompt_ids(folder, llama)
    mask = torch.tensor([[t >= start for t in range(len(ids))]])
    expected = by_hand(reference, ids, start)
    found = reference.logits(torch.tensor([ids]), mask)
    assert (found - expected).abs().max() < 1e-5
    one_late = torch.tensor([[t > start for t in range(len(ids))]])
    assert (reference.logits(torch.tensor([ids]), one_late) - expected).abs().max() > 1e-3


def test_the_factors_are_read_with_the_scale_that_peft_uses(make_alora: Make, llama: BaseModel) -> None:
    for settings in (
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 5, "^model.layers.1.self_attn.k_proj": 3}},
    ):
        folder = make_alora(f"scales-{len(settings)}-{'use_rslora' in settings}", **settings)
        attached = peft_model.attach(load_model(llama), folder)
        updates = reference_of(folder, llama).updates
        for path, update in updates.items():
            layer: Any = attached.get_base_model().get_submodule(path)
            assert math.isclose(update.scale, layer.scaling["default"])


@pytest.mark.filterwarnings("ignore:Adapter 'default'. 6 LoRA tensor")  # PEFT takes the biases for shards
def test_lora_bias_is_part_of_the_update(make_alora: Make, bases: dict[str, BaseModel]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    qwen2 = bases["qwen2"]
    folder = make_alora(base=qwen2, lora_bias=True)
    weights = load_file(folder / "adapter_model.safetensors")
    weights = {key: tensor + 0.1 if key.endswith("B.bias") else tensor for key, tensor in weights.items()}
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    reference = reference_of(folder, qwen2)
    assert all(update.bias is not None for update in reference.updates.values())
    ids, start = prompt_ids(folder, qwen2)
    row, mask = torch.tensor([ids]), torch.tensor([[t >= start for t in range(len(ids))]])
    with_bias = peft_model.forward_by_rule(peft_model.attach(load_model(qwen2), folder), row)
    assert (reference.logits(row, mask) - with_bias).abs().max() < 1e-5
    without = {path: replace(update, bias=None) for path, update in reference.updates.items()}
    assert (Reference(reference.model, without).logits(row, mask) - with_bias).abs().max() > 1e-2


@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_padded_rows_agree_with_single_ones(make_alora: Make, llama: BaseModel, left: bool) -> None:
    import torch

    folder = make_alora()
    reference = reference_of(folder, llama)
    invocation = AdapterRepo.open(folder).config.alora_invocation_tokens or []
    rows = [prompt_ids(folder, llama, index)[0] for index in (0, 1, 2)]
    ids, mask = padded(rows, pad_id=0, left=left)
    attention = torch.tensor(mask)
    batch = reference.log_probs(
        torch.tensor(ids),
        torch.tensor([active_mask(row, invocation) for row in ids]),
        attention_mask=attention,
        position_ids=positions(attention),
    )
    for index, row in enumerate(rows):
        alone = reference.log_probs(torch.tensor([row]), reference.masks([row], invocation))[0]
        assert (batch[index][attention[index].bool()] - alone).abs().max() < 1e-5


def test_chunks_and_a_cache_agree_with_one_call(make_alora: Make, llama: BaseModel) -> None:
    import torch

    folder = make_alora()
    reference = reference_of(folder, llama)
    ids, start = prompt_ids(folder, llama)
    row, mask = torch.tensor([ids]), torch.tensor([[t >= start for t in range(len(ids))]])
    whole = reference.logits(row, mask)
    for cut in (1, start - 1, start, start + 1, len(ids) - 1):

        def step(ids: "Tensor", cache: "DynamicCache") -> "Tensor":
            begin = cache.get_seq_length()
            return reference.logits(ids, mask[:, begin : begin + ids.shape[1]], cache=cache)

        found = in_chunks(step, row, [cut, len(ids) - cut], empty_cache())
        assert (found - whole).abs().max() < 1e-5


def test_continuing_a_filled_cache_leaves_the_original(make_alora: Make, llama: BaseModel) -> None:
    import torch

    folder = make_alora()
    reference = reference_of(folder, llama)
    cache = empty_cache()
    run_base(reference.model, torch.tensor([[1, 5, 6]]), cache)
    before = [(key.clone(), value.clone()) for key, value in prefix_kv(cache, 3)]
    reference.logits(torch.tensor([[7]]), torch.tensor([[True]]), cache=filled_cache(prefix_kv(cache, 3)))
    assert cache.get_seq_length() == 3
    assert first_difference(prefix_kv(cache, 3), before) is None


def test_the_model_is_pristine_afterwards_even_when_a_call_raises(make_alora: Make, llama: BaseModel) -> None:
    import torch

    reference = reference_of(make_alora(), llama)
    row, everywhere = torch.tensor([[1, 5, 6]]), torch.ones(1, 3, dtype=torch.bool)
    before = run_base(reference.model, row, empty_cache())
    reference.logits(row, everywhere)
    with pytest.raises(IndexError):  # an id that does not exist fails inside the forward pass
        reference.logits(torch.tensor([[1, 5, 10**6]]), everywhere)
    assert not any(module._forward_hooks for module in reference.model.modules())
    assert torch.equal(run_base(reference.model, row, empty_cache()), before)


def test_an_inactive_token_keeps_its_bits_though_the_update_is_not_finite(
    make_alora: Make, llama: BaseModel
) -> None:
    import torch

    # the last layer's MLP only: what attention reads of a later token is multiplied by 0, and 0 * inf is NaN
    reference = reference_of(make_alora(target_modules=["down_proj"], layers_to_transform=[1]), llama)
    for update in reference.updates.values():
        update.b.fill_(float("inf"))
    row = torch.tensor([[1, 5, 6, 7]])
    base = run_base(reference.model, row, empty_cache())
    found = reference.logits(row, torch.tensor([[False, False, False, True]]))
    assert torch.equal(found[:, :3], base[:, :3])
    assert not torch.isfinite(found[:, 3]).any()


def test_float64_is_an_oracle_that_float32_comes_near(make_alora: Make, llama: BaseModel) -> None:
    import torch

    folder = make_alora()
    single = reference_of(folder, llama)
    double = Reference(load_model(llama).double(), single.updates)
    ids, start = prompt_ids(folder, llama)
    row, mask = torch.tensor([ids]), torch.tensor([[t >= start for t in range(len(ids))]])
    oracle = double.log_probs(row, mask)
    assert oracle.dtype is torch.float64
    gap = (single.log_probs(row, mask) - oracle).abs().max()
    assert 0 < gap < 1e-5


def test_wrong_masks_and_foreign_adapters_are_refused(
    make_alora: Make, llama: BaseModel, bases: dict[str, BaseModel]
) -> None:
    import torch

    folder = make_alora()
    reference = reference_of(folder, llama)
    with pytest.raises(DefectError):
        reference.logits(torch.tensor([[1, 2]]), torch.tensor([[True]]))
    with pytest.raises(DefectError):
        reference.logits(torch.tensor([[1, 2]]), torch.tensor([[1, 1]]))
    with pytest.raises(RefusedError, match="does not have"):
        reference_of(folder, bases["gpt2"])


def test_a_pattern_from_a_file_is_not_run_as_a_regular_expression(make_alora: Make, llama: BaseModel) -> None:
    folder = make_alora()
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"alpha_pattern": {}', '"alpha_pattern": {"(a+)+b": 3}'))
    with pytest.raises(UndecidedError, match="regular expression"):
        reference_of(folder, llama)


def test_a_factor_without_its_other_half_is_refused(make_alora: Make, llama: BaseModel) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_alora()
    weights = load_file(folder / "adapter_model.safetensors")
    del weights[next(key for key in weights if "lora_B" in key)]
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(RefusedError, match="one of its two factors"):
        reference_of(folder, llama)
