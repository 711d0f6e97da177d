"""Exports against what each engine computes from its files, and read back by zoo's own readers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.converters import oracle
from tests.converters.exporters.test_gguf_adapter import read as read_gguf
from tests.validators.conformance.bench import build_base
from zoo.converters.exporters.export import Format, export
from zoo.converters.exporters.normal_form import NormalForm
from zoo.converters.exporters.torchtune import recipe_settings
from zoo.errors import RefusedError, UsageError
from zoo.models import BaseModel

Make = Callable[..., Path]
IDS = [1, 300, 2]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FOLDERS: tuple[Format, ...] = ("peft", "mlx", "vllm", "sglang", "torchtune")


@pytest.fixture
def source(make_adapter: Make) -> Path:
    """rsLoRA with patterns: everything that has to be folded first."""
    folder = make_adapter("a", r=4, use_rslora=True, rank_pattern={"k_proj": 2}, target_modules=ALL)
    return oracle.edit_weights(folder, oracle.randomise)


@pytest.fixture
def form(source: Path, tiny_base: BaseModel) -> NormalForm:
    return NormalForm.open(source, base=str(tiny_base.folder))


def peft_deltas(source: Path, base: BaseModel) -> dict[str, torch.Tensor]:
    return oracle.deltas(base, source)


def mlx_deltas(folder: Path) -> dict[str, torch.Tensor]:
    """As mlx_lm's LoRALinear computes it: `scale * (x @ lora_a) @ lora_b`, and only for what `keys` names."""
    config = json.loads((folder / "adapter_config.json").read_text())
    weights = load_file(folder / "adapters.safetensors")
    scale, keys = config["lora_parameters"]["scale"], set(config["lora_parameters"]["keys"])
    found = {}
    for name in (name for name in weights if name.endswith(".lora_a")):
        path = name.removesuffix(".lora_a")
        assert path.split(".", 3)[3] in keys
        assert weights[name].shape[1] == config["lora_parameters"]["rank"]
        product = scale * weights[name].double() @ weights[f"{path}.lora_b"].double()
        found[path] = product.T
    return found


def torchtune_deltas(folder: Path, heads: int, key_heads: int) -> dict[str, torch.Tensor]:
    """Through torchtune's own way out: its names and its `_permute_lora_matrix`, written out."""
    weights = torch.load(folder / "adapter_model.pt", weights_only=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    names = {"output_proj": "o_proj", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    found = {}
    for name in (name for name in weights if name.endswith(".lora_a.weight")):
        written = name.removesuffix(".lora_a.weight")
        _, layer, block, last = written.split(".")
        a, b = weights[name].double(), weights[f"{written}.lora_b.weight"].double()
        if last in ("q_proj", "k_proj"):
            count = heads if last == "q_proj" else key_heads
            b = b.view(count, b.shape[0] // count // 2, 2, -1).transpose(1, 2).reshape(b.shape)
        part = "self_attn" if block == "attn" else block
        scale = config["lora_alpha"] / config["r"]
        found[f"model.layers.{layer}.{part}.{names.get(last, last)}"] = scale * b @ a
    return found


def test_each_format_computes_what_the_source_does(
    form: NormalForm, source: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    wanted = peft_deltas(source, tiny_base)
    for format in FOLDERS:
        done = export(form, tmp_path / format, format)
        assert (done.modules, done.rank, done.dtype, done.error) == (14, 4, "float32", 0.0)
    found: dict[Format, dict[str, torch.Tensor]] = {
        "peft": oracle.converted_deltas(tmp_path / "peft"),
        "vllm": oracle.converted_deltas(tmp_path / "vllm"),
        "sglang": oracle.converted_deltas(tmp_path / "sglang"),
        "mlx": mlx_deltas(tmp_path / "mlx"),
        "torchtune": torchtune_deltas(tmp_path / "torchtune", heads=4, key_heads=2),
    }
    for written, deltas in found.items():
        assert oracle.worst(deltas, wanted) < 1e-6, written
    # the control: query heads taken for key heads is another function
    assert oracle.worst(torchtune_deltas(tmp_path / "torchtune", heads=2, key_heads=2), wanted) > 0.1


@pytest.mark.parametrize("format", FOLDERS)
def test_zoo_reads_back_what_it_wrote(
    format: Format, form: NormalForm, tiny_base: BaseModel, tmp_path: Path
) -> None:
    export(form, tmp_path / "out", format)
    back = NormalForm.open(tmp_path / "out", base=str(tiny_base.folder))
    assert set(back.modules) == set(form.modules)
    for path, (a, b) in form.modules.items():
        assert torch.equal(back.modules[path][0], a)
        assert torch.equal(back.modules[path][1], b)


def test_gguf_is_that_of_the_normal_form(
    form: NormalForm, source: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    done = export(form, tmp_path / "deep" / "a.gguf", "gguf")
    keys, tensors = read_gguf(done.out)
    assert (keys["adapter.lora.alpha"], len(tensors)) == (4.0, 28)
    a, b = form.modules["model.layers.1.mlp.up_proj"]
    assert np.array_equal(tensors["blk.1.ffn_up.weight.lora_a"], a.numpy())
    assert np.array_equal(tensors["blk.1.ffn_up.weight.lora_b"], b.numpy())
    with pytest.raises(UsageError, match="exists"):
        export(form, done.out, "gguf")


@pytest.mark.parametrize("family", ["qwen2", "mistral"])
def test_torchtune_rows_by_architecture(family: str, tmp_path: Path) -> None:
    from tests.conftest import build_adapter

    base = build_base(tmp_path / "base", family)
    folder = build_adapter(base, tmp_path / "a")
    form = NormalForm.open(folder, base=str(base.folder))
    export(form, tmp_path / "out", "torchtune")
    weights = torch.load(tmp_path / "out" / "adapter_model.pt", weights_only=True)
    ours = form.modules["model.layers.0.self_attn.q_proj"][1]
    kept = torch.equal(weights["layers.0.attn.q_proj.lora_b.weight"], ours)
    assert kept is (family == "qwen2")
    assert torch.equal(
        weights["layers.0.attn.v_proj.lora_b.weight"], form.modules["model.layers.0.self_attn.v_proj"][1]
    )


def test_an_alora_goes_only_where_its_invocation_does(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    form = NormalForm.open(make_adapter(alora_invocation_tokens=IDS), base=str(tiny_base.folder))
    nowhere: tuple[Format, ...] = ("mlx", "sglang", "torchtune")
    for format in nowhere:
        with pytest.raises(RefusedError) as caught:
            export(form, tmp_path / format, format)
        assert caught.value.code == "ZX007"
        assert not (tmp_path / format).exists()
        done = export(form, tmp_path / format, format, every_token=True)
        assert not done.activated
        assert any("every token" in note for note in done.notes)
    export(form, tmp_path / "peft", "peft")
    done = export(form, tmp_path / "vllm", "vllm")
    for folder in (tmp_path / "peft", done.out):
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (done.activated, config["alora_invocation_tokens"]) == (True, IDS)
    assert any("overlooks the invocation" in note for note in done.notes)
    export(form, tmp_path / "plain", "peft", every_token=True)
    config = json.loads((tmp_path / "plain" / "adapter_config.json").read_text())
    assert config["alora_invocation_tokens"] is None
    done = export(form, tmp_path / "a.gguf", "gguf")
    assert read_gguf(done.out)[0]["adapter.alora.invocation_tokens"] == IDS


def test_a_plain_lora_loads_in_peft(
    form: NormalForm, source: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    export(form, tmp_path / "out", "peft")
    ids = list(range(5, 30))
    wanted = oracle.logits(tiny_base, source, ids)
    found = oracle.logits(tiny_base, tmp_path / "out", ids)
    assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    assert float((wanted - oracle.logits(tiny_base, None, ids)).abs().max()) > 0.1


def test_another_dtype_says_its_rounding(form: NormalForm, tmp_path: Path) -> None:
    done = export(form, tmp_path / "out", "peft", dtype="bfloat16")
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    found, wanted = (
        oracle.converted_deltas(tmp_path / "out"),
        {path: b.double() @ a.double() for path, (a, b) in form.modules.items()},
    )
    assert done.error == pytest.approx(oracle.worst(found, wanted), rel=1e-6)
    assert 1e-4 < done.error < 1e-2


def test_the_rank_that_vllm_has_to_be_told(form: NormalForm, tmp_path: Path) -> None:
    done = export(form, tmp_path / "out", "vllm")
    assert any("--max-lora-rank 8 " in note for note in done.notes)


def test_what_a_recipe_has_to_say(form: NormalForm) -> None:
    assert recipe_settings(form) == {
        "apply_lora_to_mlp": True,
        "apply_lora_to_output": False,
        "lora_alpha": 4,
        "lora_attn_modules": ["q_proj", "k_proj", "v_proj", "output_proj"],
        "lora_rank": 4,
    }


def test_an_occupied_target_is_left_alone(form: NormalForm, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError):
        export(form, tmp_path / "out", "peft")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_bases_and_modules_without_a_place(tmp_path: Path, make_adapter: Make, tiny_base: BaseModel) -> None:
    from dataclasses import replace

    form = NormalForm.open(make_adapter(), base=str(tiny_base.folder))
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text(json.dumps({**tiny_base.config, "model_type": "olmo2"}))
    other = replace(form, base=BaseModel(id="strange", revision="", folder=strange))
    with pytest.raises(RefusedError) as caught:
        export(other, tmp_path / "out", "torchtune")
    assert caught.value.code == "ZX005"
    weights: dict[str, Any] = {
        name.replace("model.layers.0", "vision.blocks.0"): tensor
        for name, tensor in form.folded.weights.items()
    }
    moved = replace(form, folded=replace(form.folded, weights=weights))
    for format, code in (("mlx", "ZX006"), ("torchtune", "ZX005"), ("gguf", "ZX003")):
        with pytest.raises(RefusedError) as caught:
            export(moved, tmp_path / f"{format}.gguf", format)  # type: ignore[arg-type]
        assert caught.value.code == code
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "strange"]


@pytest.mark.parametrize("family", ["gemma2", "qwen3"])
def test_torchtune_comes_back_from_every_architecture_that_it_goes_to(family: str, tmp_path: Path) -> None:
    from tests.conftest import build_adapter

    base = build_base(tmp_path / "base", family)
    form = NormalForm.open(build_adapter(base, tmp_path / "a"), base=str(base.folder))
    export(form, tmp_path / "out", "torchtune")
    back = NormalForm.open(tmp_path / "out", base=str(base.folder))
    wanted = {path: b.double() @ a.double() for path, (a, b) in form.modules.items()}
    found = {path: b.double() @ a.double() for path, (a, b) in back.modules.items()}
    assert oracle.worst(found, wanted) < 1e-6


def test_values_beyond_a_dtype_are_refused(source: Path, tiny_base: BaseModel, tmp_path: Path) -> None:
    oracle.edit_weights(source, lambda w: {n: t * (1e6 if "lora_B" in n else 1) for n, t in w.items()})
    form = NormalForm.open(source, base=str(tiny_base.folder))
    with pytest.raises(RefusedError, match="float16") as refused:
        export(form, tmp_path / "out", "peft", dtype="float16")
    assert refused.value.code == "ZV021"
    assert not (tmp_path / "out").exists()
    assert export(form, tmp_path / "out", "peft", dtype="bfloat16").error < 1e-2
