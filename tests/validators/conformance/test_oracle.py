"""The float64 oracle: against equations written out by hand, and for its precision on every family."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.validators.conformance.bench import FAMILIES, adapter_settings, build_base, invocation_ids
from tests.validators.conformance.llama_by_hand import Llama
from zoo.adapter import AdapterRepo
from zoo.models import BaseModel, Dtype, load_model
from zoo.validators.conformance.low_rank import LowRank
from zoo.validators.conformance.oracle import Oracle
from zoo.validators.conformance.reference import Reference

if TYPE_CHECKING:
    import torch

Make = Callable[..., Path]
START = 9
TOKENS = 24


def strong_reference(make_alora: Make, llama: BaseModel) -> Reference:
    """All linear layers adapted, the head too; weights and norms far from their initial values."""
    import torch

    folder = make_alora(strength=0.5, **adapter_settings("llama"))
    model: Any = load_model(llama)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            around = 1.0 if parameter.ndim == 1 else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + around)
    updates = dict(Reference.from_folder(model, AdapterRepo.open(folder)).updates)
    a, b = (
        torch.randn(3, 32, generator=generator),
        torch.randn(model.config.vocab_size, 3, generator=generator),
    )
    updates["lm_head"] = LowRank(a=a, b=b * 0.1, bias=None, scale=0.7)
    return Reference(model, updates)


def by_hand(reference: Reference, *, exact_frequencies: bool = False) -> Llama:
    model: Any = reference.model
    config = model.config
    half = config.hidden_size // config.num_attention_heads // 2
    theta = config.rope_parameters["rope_theta"]
    exact = theta ** -(np.arange(half) / half)
    return Llama(
        weights={name: tensor.double().numpy() for name, tensor in model.state_dict().items()},
        updates={
            path: update.scale * update.b.double().numpy() @ update.a.double().numpy()
            for path, update in reference.updates.items()
        },
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        groups=config.num_key_value_heads,
        epsilon=config.rms_norm_eps,
        frequencies=exact if exact_frequencies else model.model.rotary_emb.inv_freq.double().numpy(),
    )


def row(seed: int = 0) -> list[int]:
    return [int(id) for id in np.random.default_rng(seed).integers(3, 260, TOKENS)]


def relative(found: "torch.Tensor", expected: "np.ndarray[Any, Any]") -> float:
    return float(np.abs(found[0].numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("start", [0, 1, START, TOKENS - 1, TOKENS])
def test_the_oracle_is_the_equations_written_out_by_hand(
    make_alora: Make, llama: BaseModel, start: int
) -> None:
    import torch

    reference = strong_reference(make_alora, llama)
    ids, active = row(), [t >= start for t in range(TOKENS)]
    expected = by_hand(reference).logits(ids, active)
    args = torch.tensor([ids]), torch.tensor([active])
    assert relative(Oracle.of(reference).logits(*args), expected) < 1e-12
    assert 1e-9 < relative(reference.logits(*args), expected) < 1e-5
    # the frequencies in the model's float32 buffer are its only departure from exact ones
    exact = by_hand(reference, exact_frequencies=True).logits(ids, active)
    assert 0 < relative(Oracle.of(reference).logits(*args), exact) < 1e-5


def test_the_equations_tell_apart_what_is_wrong(make_alora: Make, llama: BaseModel) -> None:
    import torch

    reference = strong_reference(make_alora, llama)
    oracle = Oracle.of(reference)
    ids, active = row(), [t >= START for t in range(TOKENS)]
    expected = by_hand(reference).logits(ids, active)
    late = [t > START for t in range(TOKENS)]
    assert relative(oracle.logits(torch.tensor([ids]), torch.tensor([late])), expected) > 1e-2
    for path in reference.updates:
        fewer = {other: update for other, update in oracle.updates.items() if other != path}
        found = Oracle(oracle.model, fewer).logits(torch.tensor([ids]), torch.tensor([active]))
        assert relative(found, expected) > 1e-4, path


def test_a_model_merely_cast_to_float64_is_no_oracle(make_alora: Make, llama: BaseModel) -> None:
    """Its norms and rotary embeddings compute in float32 all the same: why the oracle widens."""
    import torch

    reference = strong_reference(make_alora, llama)
    ids, active = row(), [t >= START for t in range(TOKENS)]
    expected = by_hand(reference).logits(ids, active)
    cast = Reference(Oracle.of(reference).model, reference.updates)
    found = cast.logits(torch.tensor([ids]), torch.tensor([active]))
    assert found.dtype is torch.float64
    assert relative(found, expected) > 1e-9


@pytest.mark.parametrize(("dtype", "attention"), [("bfloat16", ""), ("float32", "eager")])
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_in_an_oracle_is_narrower_than_float64(
    tmp_path: Path, family: str, dtype: Dtype, attention: str
) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    narrow: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            narrow.extend(
                str(func)
                for one in tree_leaves(made)
                if isinstance(one, torch.Tensor)
                and one.is_floating_point()
                and one.dtype is not torch.float64
            )
            return made

    model = load_model(build_base(tmp_path / "base", family), dtype=dtype)
    if attention:
        model.set_attn_implementation(attention)
    path = next(name for name, _ in model.named_modules() if name.endswith(FAMILIES[family]["targets"][0]))
    weight: Any = model.get_submodule(path).weight
    outputs, inputs = weight.shape
    if family == "gpt2":
        inputs, outputs = outputs, inputs
    update = LowRank(a=torch.ones(2, inputs), b=torch.ones(outputs, 2), bias=None, scale=0.1)
    oracle = Oracle.of(Reference(model, {path: update}))
    ids = torch.tensor([row()])
    mask = torch.tensor([[t >= START for t in range(TOKENS)]])
    with Watch():
        found = oracle.log_probs(ids, mask)
    assert found.dtype is torch.float64
    assert narrow == []
    with Watch():
        Reference(oracle.model, oracle.updates).log_probs(ids, mask)
    assert narrow or family == "gpt2"  # the watch sees what it is there for; GPT-2 asks for no type by name
    assert torch.get_default_dtype() is torch.float32


def test_the_model_itself_stays_as_it_is(make_alora: Make, llama: BaseModel) -> None:
    import torch

    reference = strong_reference(make_alora, llama)
    oracle = Oracle.of(reference)
    with pytest.raises(IndexError):  # also when a call fails, the default dtype comes back
        oracle.logits(torch.tensor([[10**6]]), torch.tensor([[True]]))
    assert torch.get_default_dtype() is torch.float32
    assert reference.model.dtype is torch.float32
    assert all(update.a.dtype is torch.float32 for update in reference.updates.values())
    assert invocation_ids(llama)
