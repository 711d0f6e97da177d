import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zoo import peft_model
from zoo.errors import DefectError, RefusedError
from zoo.models import BaseModel, load_model

if TYPE_CHECKING:
    from peft import PeftModel

INVOCATION = [1, 40, 41]
PROMPT = [1, 50, 51, 52, 53, *INVOCATION]
Make = Callable[..., Path]


@pytest.fixture
def adapted(make_adapter: Make, tiny_base: BaseModel) -> "PeftModel":
    return peft_model.attach(load_model(tiny_base), make_adapter(alora_invocation_tokens=INVOCATION))


def logits(model: Any, ids: list[int], **rest: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), **rest).logits


def test_given_offsets_do_what_peft_finds_by_itself(adapted: "PeftModel") -> None:
    import torch

    row = torch.tensor([PROMPT])
    assert torch.equal(
        peft_model.forward(adapted, row, offsets=[3]), peft_model.forward_by_rule(adapted, row)
    )
    assert torch.equal(peft_model.forward(adapted, row, offsets=[3]), logits(adapted, PROMPT))
    assert not torch.equal(peft_model.forward(adapted, row, offsets=[2]), logits(adapted, PROMPT))


@pytest.mark.parametrize("off", [None, 0])
def test_no_offset_is_the_base_model(adapted: "PeftModel", tiny_base: BaseModel, off: int | None) -> None:
    import torch

    found = peft_model.forward(adapted, torch.tensor([PROMPT]), offsets=[off])
    assert (found - logits(load_model(tiny_base), PROMPT)).abs().max() < 1e-5
    assert (found - peft_model.forward_by_rule(adapted, torch.tensor([PROMPT]))).abs().max() > 1e-3


def test_a_decode_step_with_a_large_offset_stays_adapted(adapted: "PeftModel") -> None:
    import torch
    from transformers import DynamicCache

    whole = logits(adapted, [*PROMPT, 60])
    cache = DynamicCache()
    peft_model.forward(adapted, torch.tensor([PROMPT]), offsets=[3], cache=cache)
    step = peft_model.forward(adapted, torch.tensor([[60]]), offsets=[10**6], cache=cache)
    assert (step[0, -1] - whole[0, -1]).abs().max() < 1e-5
    cache = DynamicCache()
    peft_model.forward(adapted, torch.tensor([PROMPT]), offsets=[3], cache=cache)
    silent = peft_model.forward_by_rule(adapted, torch.tensor([[60]]), cache=cache)  # PEFT's own trap
    assert (silent[0, -1] - whole[0, -1]).abs().max() > 1e-3


def test_logits_to_keep(adapted: "PeftModel") -> None:
    import torch

    assert peft_model.forward(adapted, torch.tensor([PROMPT]), offsets=[3], logits_to_keep=1).shape[1] == 1


def test_generate_is_greedy_whatever_the_base_says(adapted: "PeftModel") -> None:
    import torch

    adapted.generation_config.do_sample = True
    adapted.generation_config.temperature = 50.0
    row = torch.tensor([PROMPT])
    made = peft_model.generate(
        adapted, row, attention_mask=torch.ones_like(row), max_new_tokens=3, end_ids=(), pad_id=0
    )
    ids = list(PROMPT)
    for _ in range(3):
        ids.append(int(peft_model.forward_by_rule(adapted, torch.tensor([ids]))[0, -1].argmax()))
    assert made[0].tolist() == ids


def test_generate_on_the_bases_cache_gives_the_same_tokens(
    adapted: "PeftModel", tiny_base: BaseModel
) -> None:
    import torch
    from transformers import DynamicCache

    row = torch.tensor([PROMPT])
    cache = DynamicCache()
    with torch.no_grad():
        load_model(tiny_base)(input_ids=row[:, :5], past_key_values=cache, use_cache=True)
    rest: dict[str, Any] = {"max_new_tokens": 4, "end_ids": (2,), "pad_id": 0}
    fresh = peft_model.generate(adapted, row, attention_mask=torch.ones_like(row), **rest)
    reused = peft_model.generate(adapted, row, attention_mask=torch.ones_like(row), cache=cache, **rest)
    assert fresh.tolist() == reused.tolist()


def last_layer(model: "PeftModel") -> Any:
    return model.get_base_model().get_submodule("model.layers.1.self_attn.v_proj")


def fail(*_: Any) -> None:
    raise ZeroDivisionError


def test_peft_leaks_hooks_that_change_the_next_call_and_the_guard_removes_them(adapted: "PeftModel") -> None:
    import torch

    row, other = torch.tensor([PROMPT]), [*PROMPT[:5], 60, 61]
    last = last_layer(adapted)
    base = logits(adapted, other)  # no invocation in it
    handle = last.register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError):
        logits(adapted, PROMPT)
    with pytest.raises(ZeroDivisionError):
        logits(adapted, PROMPT)
    handle.remove()
    assert peft_model.offset_hooks(adapted) > 0
    with adapted.disable_adapter():
        pass
    with pytest.raises(DefectError, match="stale"):
        peft_model.forward_by_rule(adapted, row)
    assert peft_model.offset_hooks(adapted, remove=True) > 0
    assert torch.equal(logits(adapted, other), base)

    handle = last.register_forward_hook(fail)
    for call in (
        lambda: peft_model.forward(adapted, row, offsets=[3]),
        lambda: peft_model.forward_by_rule(adapted, row),
        lambda: peft_model.generate(
            adapted, row, attention_mask=torch.ones_like(row), max_new_tokens=1, end_ids=(), pad_id=0
        ),
    ):
        with pytest.raises(ZeroDivisionError):
            call()
        assert peft_model.offset_hooks(adapted) == 0
    handle.remove()
    assert torch.equal(logits(adapted, other), base)


def test_the_guard_also_removes_what_a_mixed_batch_leaves(adapted: "PeftModel") -> None:
    last = last_layer(adapted)
    handle = last.register_forward_hook(fail)
    with pytest.raises(ZeroDivisionError), peft_model.guarded(adapted):
        logits(adapted, PROMPT, adapter_names=["default"])
    handle.remove()
    assert peft_model.offset_hooks(adapted) == 0


def test_trainable_or_frozen_as_asked(make_adapter: Make, tiny_base: BaseModel) -> None:
    folder = make_adapter(alora_invocation_tokens=INVOCATION)
    frozen = peft_model.attach(load_model(tiny_base), folder)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not frozen.training
    trained = peft_model.attach(load_model(tiny_base), folder, trainable=True)
    wanted = [name for name, p in trained.named_parameters() if p.requires_grad]
    assert wanted
    assert all("lora_" in name for name in wanted)


def test_two_adapters_under_their_names(make_adapter: Make, tiny_base: BaseModel) -> None:
    one = peft_model.attach(
        load_model(tiny_base), make_adapter("a", alora_invocation_tokens=INVOCATION), name="one"
    )
    assert list(one.peft_config) == ["one"]


def spoil_config(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"task_type": "SEQ_CLS"},
        {"task_type": None},
        {"r": 64},
        {"target_modules": "("},
        {"target_modules": []},
        {"peft_type": "NO_SUCH"},
        {"target_modules": ["embed_tokens"]},
        {"use_dora": True},
    ],
    ids=str,
)
def test_what_does_not_load_is_one_refusal(
    make_adapter: Make, tiny_base: BaseModel, changes: dict[str, Any]
) -> None:
    folder = make_adapter(alora_invocation_tokens=INVOCATION)
    spoil_config(folder, **changes)
    with pytest.raises(RefusedError) as caught:
        peft_model.attach(load_model(tiny_base), folder)
    assert caught.value.code == "ZP001"
    assert "\n" not in caught.value.message


def test_garbage_weights_and_missing_ones_are_refused(make_adapter: Make, tiny_base: BaseModel) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_adapter(alora_invocation_tokens=INVOCATION)
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    del weights[next(iter(weights))]
    save_file(weights, path)
    with pytest.raises(RefusedError, match="would stay as initialised"):
        peft_model.attach(load_model(tiny_base), folder)
    path.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(RefusedError, match="does not load"):
        peft_model.attach(load_model(tiny_base), folder)
    path.unlink()
    (folder / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(RefusedError, match=r"holds no adapter_model\.safetensors"):
        peft_model.attach(load_model(tiny_base), folder)


def test_a_device_without_memory_is_no_verdict(
    make_adapter: Make, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import peft
    import torch

    from zoo.errors import UndecidedError

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    folder = make_adapter(alora_invocation_tokens=INVOCATION)
    monkeypatch.setattr(peft.PeftModel, "from_pretrained", full)
    with pytest.raises(UndecidedError, match="memory"):
        peft_model.attach(load_model(tiny_base), folder)
