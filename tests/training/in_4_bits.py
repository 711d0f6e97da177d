"""Training on a base in 4 bits, by the real bitsandbytes on the CPU: tests that `test_quantised.py` runs."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from tests.conftest import build_tiny_base
from tests.training.conftest import Write, task
from tests.training.engine import TOLERANCE, full_pass, gradients, largest_difference, shared_samples
from tests.training.test_train import SETTINGS, run_training
from tests.training.test_train_command import command
from zoo.cli import run
from zoo.errors import BaseMissingError
from zoo.models import BaseModel, load_model, resolve
from zoo.prompts import Prompter
from zoo.training import quantised
from zoo.training.plan import plan_training
from zoo.training.prefix import PrefixStore, answer_loss
from zoo.training.train import new_adapter

IN_4_BITS = replace(SETTINGS, load_in_4_bits=True)
INVOCATION = "<|im_start|>check\n"
Linear4bit: Any = import_module("bitsandbytes.nn").Linear4bit


@pytest.fixture(scope="session")
def wide_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Rows of 64 numbers, as many as share a scale."""
    return resolve(str(build_tiny_base(tmp_path_factory.mktemp("base") / "wide", hidden=64)))


def test_without_a_gpu_cuda_is_refused(
    wide_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--load-in-4-bits", "--device", "cuda:99"]
    assert command(write(task(12)), tmp_path / "out", wide_base, *more) == 3
    assert "no usable cuda device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_linear_layer_but_the_head_is_in_4_bits(wide_base: BaseModel) -> None:
    whole, small = load_model(wide_base), quantised.load_in_4_bits(wide_base, dtype="float32", device="cpu")
    linears = {name for name, one in whole.named_modules() if isinstance(one, nn.Linear)} - {"lm_head"}
    assert linears == {name for name, one in small.named_modules() if isinstance(one, Linear4bit)}
    ids = torch.arange(5, 40)[None]
    with torch.no_grad():
        one, two = whole(input_ids=ids).logits, small(input_ids=ids).logits
    assert 1e-3 < float((one - two).norm() / one.norm()) < 0.5
    with pytest.raises(BaseMissingError, match=r"layers\.0\.self_attn\.q_proj, .* stay as it is"):
        quantised._check_bits(whole, wide_base)
    small.model.layers[1].mlp.up_proj = whole.model.layers[1].mlp.up_proj
    with pytest.raises(BaseMissingError, match=r"4 bits: model\.layers\.1\.mlp\.up_proj stays as it is"):
        quantised._check_bits(small, wide_base)


def test_a_cpu_that_packs_weights_for_inference_is_kept_from_it(
    wide_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On such a CPU, and on this one as if it were one: what is packed passes no gradients back."""
    monkeypatch.setattr(import_module("bitsandbytes.nn.modules"), "has_avx512bf16", lambda: True)
    monkeypatch.setattr(import_module("bitsandbytes"), "matmul_4bit", lambda inputs, *_, **__: inputs)

    def packs() -> bool:
        model = quantised.load_in_4_bits(wide_base, dtype="float32", device="cpu")
        layer = model.model.layers[0].mlp.up_proj
        with torch.no_grad():
            layer(torch.ones(1, layer.in_features))
        return bool(getattr(layer.weight.quant_state, "packing_format_for_cpu", False))

    assert not packs()
    monkeypatch.setattr(quantised, "_keep_differentiable", lambda model: None)  # control
    assert packs()


def adapted(base: BaseModel, load: Any) -> PeftModel:
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj"],
        init_lora_weights=False,
        alora_invocation_tokens=list(Prompter(base).encode(INVOCATION)),
    )
    model = get_peft_model(load(base, dtype="float32", device="cpu"), config).eval()
    assert isinstance(model, PeftModel)
    return model


def test_gradients_are_pefts_on_the_same_quantised_base(wide_base: BaseModel) -> None:
    model = adapted(wide_base, quantised.load_in_4_bits)
    samples = shared_samples(Prompter(wide_base).encode(INVOCATION))
    rows = range(len(samples))
    theirs = gradients(model, full_pass(model, samples, rows))
    ours = gradients(model, answer_loss(PrefixStore(model, samples), rows))
    assert largest_difference(ours, theirs) <= TOLERANCE

    whole = adapted(wide_base, load_model)  # control: the same weights on the base as it was
    other = gradients(whole, full_pass(whole, samples, rows))
    assert largest_difference(other, theirs) > 100 * TOLERANCE


def test_a_start_that_halves_the_rank_leaves_the_quantised_base_as_it_is(
    wide_base: BaseModel, write: Write
) -> None:
    plan = plan_training(
        write(task(12)), invocation_text=INVOCATION, base=str(wide_base.folder),
        settings=replace(IN_4_BITS, init="pissa"),
    )  # fmt: skip
    model = new_adapter(plan, device="cpu", dtype="float32")
    assert any(bool((p != 0).any()) for name, p in model.named_parameters() if "lora_B" in name)
    ids = torch.tensor([[5, 6, 7, *plan.invocation.ids, 9, 10]])
    with torch.no_grad(), model.disable_adapter():
        expected = model(input_ids=ids).logits
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, expected, atol=1e-4, rtol=1e-4)


def test_a_training_on_4_bits_is_recorded_and_repeated(
    wide_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(task(12))
    done = run_training(wide_base, data, tmp_path / "small", settings=IN_4_BITS)
    whole = run_training(wide_base, data, tmp_path / "whole")
    assert done.training.settings["load_in_4_bits"] is True
    assert done.losses[0] != whole.losses[0]
    assert done.losses[-1] < done.losses[0]
    arguments = [str(data), str(tmp_path / "again"), "--repeat", str(done.folder)]
    assert run(["train", *arguments, "--base", str(wide_base.folder), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["settings"]["load_in_4_bits"] is True
