from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import build_adapter
from tests.inference.conftest import FAMILIES, IN_PLACE, SMALL
from zoo import peft_model
from zoo.adapter import AdapterRepo
from zoo.errors import RefusedError, UndecidedError, UsageError
from zoo.inference import attention
from zoo.inference.continuation import Growing
from zoo.inference.fixed_cache import FixedCache
from zoo.inference.shared_base import SharedBase
from zoo.models import BaseModel, load_model, resolve
from zoo.validators.conformance.reference import Reference

Family = Callable[[str], tuple[BaseModel, Path]]
TOLERANCE = 1e-4  # zoo.validators.conformance.tolerance: log-probabilities in float32
PREFIX = [3 + (7 * i) % 390 for i in range(40)]
SUFFIX = [5, 9, 300, 41, 77]


def opened(base: BaseModel, **settings: Any) -> SharedBase:
    return SharedBase(base, load_model(base), **settings)


def reference(shared: SharedBase, folder: Path, prefix: Sequence[int], suffix: Sequence[int]) -> torch.Tensor:
    """Log-probabilities of the suffix by the definition, over the whole prompt, without any cache."""
    ids = torch.tensor([[*prefix, *suffix]])
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, len(prefix) :] = True
    return Reference.from_folder(shared.model, AdapterRepo.open(folder)).log_probs(ids, mask)[
        0, len(prefix) :
    ]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_suffix_is_what_the_reference_computes(family: Family, name: str) -> None:
    base, folder = family(name)
    shared = opened(base)
    adapted, prefix = shared.adapter(AdapterRepo.open(folder)), shared.prefill(PREFIX)
    wanted = reference(shared, folder, PREFIX, SUFFIX)
    found = adapted.logits(prefix, SUFFIX)
    assert found.dtype is torch.float32
    assert found.shape == (len(SUFFIX), 400)
    assert difference(found.log_softmax(-1), wanted) < TOLERANCE
    assert difference(shared.plain().logits(prefix, SUFFIX).log_softmax(-1), wanted) > 0.1
    assert isinstance(shared._continuation, FixedCache if name in IN_PLACE else Growing)


def test_a_suffix_is_what_peft_computes(family: Family, tmp_path: Path) -> None:
    base, _ = family("llama")
    folder = build_adapter(base, tmp_path / "activated", alora_invocation_tokens=SUFFIX[:2])
    shared = opened(base)
    found = shared.adapter(AdapterRepo.open(folder)).logits(shared.prefill(PREFIX), SUFFIX)
    with torch.no_grad():
        model = peft_model.attach(load_model(base), folder)
        ids = torch.tensor([[*PREFIX, *SUFFIX]])
        logits = peft_model.forward(model, ids, offsets=[len(SUFFIX)])[0, len(PREFIX) :]
        early = peft_model.forward(model, ids, offsets=[len(SUFFIX) + 1])[0, len(PREFIX) :]
    assert difference(found.log_softmax(-1), logits.log_softmax(-1)) < TOLERANCE
    assert difference(found.log_softmax(-1), early.log_softmax(-1)) > 10 * TOLERANCE  # one token early shows


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_decoding_is_a_recomputation_token_by_token(family: Family, name: str) -> None:
    base, folder = family(name)
    shared = opened(base)
    adapted, prefix = shared.adapter(AdapterRepo.open(folder)), shared.prefill(PREFIX)
    ids = list(SUFFIX)
    found = adapted.generate(prefix, ids, max_new_tokens=12, end_ids=[], top_logprobs=3)
    for token, top in zip(found.ids, found.top, strict=True):
        wanted = reference(shared, folder, PREFIX, ids)[-1]
        values, best = wanted.topk(3)
        assert token == int(best[0])
        assert [id for id, _ in top] == best.tolist()
        assert [value for _, value in top] == pytest.approx(values.tolist(), abs=TOLERANCE)
        ids.append(token)
    assert found.stopped == "length"
    ended = adapted.generate(prefix, SUFFIX, max_new_tokens=12, end_ids=[found.ids[3]])
    first = found.ids.index(found.ids[3])
    assert (ended.ids, ended.stopped) == (found.ids[:first], "end")


@pytest.mark.parametrize("name", ["llama", "mistral-sliding"])
def test_a_prefix_keeps_every_bit_whatever_runs_behind_it(family: Family, name: str) -> None:
    base, folder = family(name)
    shared = opened(base)
    adapted, prefix = shared.adapter(AdapterRepo.open(folder)), shared.prefill(PREFIX)
    before = [(keys.clone(), values.clone()) for keys, values in prefix.layers]
    writes = [part._version for pair in prefix.sequence.layers for part in pair]
    adapted.logits(prefix, SUFFIX)
    adapted.generate(prefix, SUFFIX, max_new_tokens=30, end_ids=[])
    shared.prefill([*PREFIX, 8, 9])
    shared.plain().generate(shared.prefill(PREFIX[:20]), SUFFIX, max_new_tokens=30, end_ids=[])
    assert writes == [part._version for pair in prefix.sequence.layers for part in pair]
    for pair, old in zip(prefix.layers, before, strict=True):
        for part, was in zip(pair, old, strict=True):
            assert torch.equal(part.view(torch.int32), was.view(torch.int32))


def test_adapters_take_turns_on_prefixes_that_change(family: Family) -> None:
    base, folder = family("llama")
    shared = opened(base)
    adapted, plain = shared.adapter(AdapterRepo.open(folder)), shared.plain()
    other = [11, 12, 13]
    prefixes = [PREFIX, PREFIX[:25], [*PREFIX[:10], *other], PREFIX]
    for ids in prefixes:
        prefix = shared.prefill(ids)
        for model in (adapted, plain, adapted):
            found = model.logits(prefix, SUFFIX).log_softmax(-1)
            if model is adapted:
                assert difference(found, reference(shared, folder, ids, SUFFIX)) < TOLERANCE


def test_the_base_is_not_changed_by_an_adapter(family: Family) -> None:
    base, folder = family("llama-untied-head")
    shared = opened(base)
    before = [tensor.clone() for tensor in shared.model.parameters()]
    adapted = shared.adapter(AdapterRepo.open(folder))
    own = {id(p) for p in adapted.model.parameters()} - {id(p) for p in shared.model.parameters()}
    assert len(own) == 2 * 2 + 1  # q_proj and down_proj of two layers, and the head
    assert all(torch.equal(a, b) for a, b in zip(before, shared.model.parameters(), strict=True))
    assert shared.model.config._attn_implementation != attention.NAME


def test_an_adapted_head_leaves_a_tied_embedding_alone(family: Family, tmp_path: Path) -> None:
    base, _ = family("llama")
    folder = build_adapter(base, tmp_path / "head", target_modules=["lm_head"])
    shared = opened(base)
    found = shared.adapter(AdapterRepo.open(folder)).logits(shared.prefill(PREFIX), SUFFIX).log_softmax(-1)
    assert difference(found, reference(shared, folder, PREFIX, SUFFIX)) < TOLERANCE


def test_a_prefix_may_be_empty_and_a_suffix_may_not(family: Family) -> None:
    base, folder = family("llama")
    shared = opened(base)
    adapted, prefix = shared.adapter(AdapterRepo.open(folder)), shared.prefill([])
    assert len(prefix) == 0
    found = adapted.logits(prefix, SUFFIX).log_softmax(-1)
    assert difference(found, reference(shared, folder, [], SUFFIX)) < TOLERANCE
    with pytest.raises(UsageError, match="no tokens"):
        adapted.logits(prefix, [])


def test_a_prefill_computes_only_what_is_not_held(family: Family) -> None:
    base, _ = family("llama")
    shared = opened(base)
    run: list[int] = []
    shared.model.register_forward_pre_hook(
        lambda _, args, kwargs: run.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    first = shared.prefill(PREFIX)
    assert run == [40]
    assert shared.prefill(PREFIX).sequence is first.sequence
    assert shared.prefill(PREFIX[:30]).sequence is first.sequence
    assert run == [40]
    longer = shared.prefill([*PREFIX, 8, 9])
    assert run == [40, 2]
    assert torch.equal(longer.layers[1][0][:, :, :40], first.layers[1][0])
    shared.prefill([*PREFIX[:10], 350, 351])
    assert run == [40, 2, 2]
    fresh = opened(base).prefill([*PREFIX[:10], 350, 351])
    again = shared.prefill([*PREFIX[:10], 350, 351])
    assert difference(fresh.layers[1][1], again.layers[1][1]) < 1e-5


def test_long_prefixes_are_computed_in_chunks(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    base, folder = family("llama")
    monkeypatch.setattr("zoo.inference.shared_base.CHUNK", 16)
    shared = opened(base)
    found = shared.adapter(AdapterRepo.open(folder)).logits(shared.prefill(PREFIX), SUFFIX).log_softmax(-1)
    assert difference(found, reference(shared, folder, PREFIX, SUFFIX)) < TOLERANCE


def test_what_is_not_a_number_is_told_and_does_not_stay(family: Family) -> None:
    base, folder = family("llama")
    shared = opened(base)
    # as on a GPU: the window reaches beyond the last token, to what others left there
    shared._continuation = FixedCache(shared.model, padded=True, captured=False)
    good, broken = shared.adapter(AdapterRepo.open(folder)), shared.plain()
    layer: Any = broken.model.get_submodule("model.layers.0.self_attn.v_proj")
    layer.weight = torch.nn.Parameter(torch.full_like(layer.weight, torch.inf), requires_grad=False)
    prefix = shared.prefill(PREFIX)
    wanted = good.logits(prefix, SUFFIX)
    with pytest.raises(UndecidedError, match="not numbers"):
        broken.logits(prefix, SUFFIX * 5)
    assert torch.equal(good.logits(prefix, SUFFIX), wanted)
    with pytest.raises(UndecidedError, match="not numbers"):
        broken.generate(prefix, SUFFIX * 5, max_new_tokens=3, end_ids=[])
    assert torch.equal(good.logits(prefix, SUFFIX), wanted)


@pytest.mark.parametrize("name", ["qwen2", "gpt2"])
def test_an_adapter_of_another_model_is_refused(family: Family, name: str) -> None:
    base, _ = family("llama-all-heads")
    with pytest.raises(RefusedError):
        opened(base).adapter(AdapterRepo.open(family(name)[1]))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("MambaConfig", {"state_size": 4}),
        (
            "GraniteMoeHybridConfig",
            {"layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_state": 4},
        ),
    ],
)
def test_a_base_with_a_recurrent_state_is_refused(
    tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    import transformers

    config = getattr(transformers, kind)(**(SMALL | settings))
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UndecidedError, match="cannot be shared"):
        opened(resolve(str(tmp_path))).prefill(PREFIX)
