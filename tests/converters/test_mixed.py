"""Mixed conventions: what a reader would leave out, or take for something else, is refused and not read."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.benchmarks.convert_damage import rewrite, weights_of
from tests.converters import foreign, oracle
from tests.converters.layouts import LAYOUTS
from tests.converters.peft_methods import EXACT, build
from tests.converters.test_readers import folded, updates
from zoo.converters.base_weights import open_base_weights
from zoo.converters.fold import fold
from zoo.converters.readers import read_checkpoint
from zoo.converters.readers.extract import extract
from zoo.converters.source import Source
from zoo.errors import NotFoundError, RefusedError
from zoo.models import BaseModel, resolve

Make = Callable[..., Path]
Tensors = dict[str, torch.Tensor]
Q, DOWN = "lycoris_model_layers_0_self_attn_q_proj", "lycoris_model_layers_0_mlp_down_proj"
FLAT = "lora_te_model_layers_0_self_attn_q_proj"
P = "base_model.model.model.layers.0.self_attn.q_proj"


def refused(path: Path, base: BaseModel, **said: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        folded(path, base, **said)
    return caught.value.code


@pytest.mark.parametrize(
    ("layout", "added"),
    [
        ("lycoris", {f"{Q}.lora_down.weight": (3, 32), f"{Q}.lora_up.weight": (32, 3)}),
        ("lycoris", {f"{Q}.lokr_w1": (4, 4), f"{Q}.lokr_w2": (8, 8)}),
        ("lycoris", {f"{DOWN}.lokr_w1_a": (4, 3), f"{DOWN}.lokr_w1_b": (3, 4)}),
        ("kohya", {f"{FLAT}.lora.down.weight": (3, 32)}),
    ],
    ids=["lora beside loha", "lokr beside loha", "a factor whole and in two", "one factor twice"],
)
def test_two_methods_on_one_module_are_refused(
    layout: str, added: dict[str, tuple[int, ...]], tiny_base: BaseModel, tmp_path: Path
) -> None:
    made = LAYOUTS[layout][1](tiny_base, tmp_path / "adapter")
    more = {name: torch.ones(shape) for name, shape in added.items()}
    save_file({**load_file(made.path), **more}, made.path)
    assert refused(made.path, tiny_base) == "ZV016"


@pytest.mark.parametrize(
    ("name", "part", "shape"),
    [
        ("lokr whole", "lokr_w2_a", (8, 2)),
        ("gralora", "gralora_A_general", (2, 32)),
        ("para", "deft_R", (4, 32)),
        ("vb-lora", "vblora_logits_A_topk_weights", (4, 4, 1)),
    ],
)
def test_a_tensor_that_the_config_leaves_unused_is_refused(
    name: str, part: str, shape: tuple[int, ...], tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT[name])
    updates(folded(source, tiny_base))
    oracle.edit_weights(source, lambda w: {**w, f"{P}.{part}": torch.ones(shape)})
    assert refused(source, tiny_base) == "ZV016"


def test_two_variants_of_lora_on_one_module_are_refused(make_adapter: Make, tiny_base: BaseModel) -> None:
    """Each of the two would be read as if the other were not there."""
    source = make_adapter(r=4)

    def both(weights: Tensors) -> Tensors:
        mapping = {f"{n.partition('.lora_A')[0]}.default_lora_latent_mapping.weight": torch.eye(4) * 2
                   for n in weights if ".lora_A." in n}  # fmt: skip
        magnitudes = {n.replace("lora_B", "lora_magnitude_vector"): torch.ones(len(t))
                      for n, t in weights.items() if ".lora_B." in n}  # fmt: skip
        return {**weights, **mapping, **magnitudes}

    oracle.edit_config(oracle.edit_weights(source, both), use_dora=True)
    assert refused(source, tiny_base, max_error=0.9) == "ZV016"


@pytest.mark.parametrize("layout", ["peft", "mlx", "torchtune", "hra", "bare"])
def test_two_spellings_of_one_module_are_refused(
    layout: str, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    """Of `model.layers.0.…` and `layers.0.…` one would take the other's place."""
    said: dict[str, Any] = {}
    if layout == "peft":
        path = make_adapter()
    elif layout == "hra":
        path = build(tiny_base, tmp_path / "source", *EXACT["hra"])
    else:
        _, make, said = LAYOUTS[layout]
        path = make(tiny_base, tmp_path / "source").path
    file = weights_of(path)

    def both(weights: Tensors) -> Tensors:
        again = {}
        for name, tensor in weights.items():
            short = name.replace("base_model.model.model.", "base_model.model.").removeprefix("model.")
            if layout == "torchtune":
                short = f"model.{name.replace('attn.', 'self_attn.').replace('output_proj', 'o_proj')}"
            if ".q_proj" in name and "layers.0" in name:
                again[short] = tensor.clone()
        return {**weights, **again}

    rewrite(file, both)
    assert refused(path, tiny_base, **said) == "ZV016"


def test_a_gguf_of_another_architecture_is_refused(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    """The names and shapes fit; the rows of q and k lie in another order."""
    import json
    from dataclasses import replace

    from zoo.adapter import AdapterRepo
    from zoo.converters.exporters.gguf_adapter import export_gguf

    folder = tmp_path / "qwen"
    shutil.copytree(tiny_base.folder, folder)
    (folder / "config.json").write_text(json.dumps({**tiny_base.config, "model_type": "qwen2"}))
    other = replace(tiny_base, folder=folder)
    file = export_gguf(AdapterRepo(root=make_adapter(), name="it"), other, tmp_path / "it.gguf")
    assert refused(file, tiny_base) == "ZV017"


def test_a_module_below_a_name_that_the_base_does_not_have_is_refused(
    make_adapter: Make, tiny_base: BaseModel
) -> None:
    """The language model inside a larger one: its names would match nothing in the base, without an error."""
    source = make_adapter()
    oracle.edit_weights(
        source, lambda w: {n.replace("model.model.", "model.language_model.model."): t for n, t in w.items()}
    )
    assert refused(source, tiny_base) == "ZV017"


def test_a_base_whose_checkpoint_leaves_out_the_outermost_name(tmp_path: Path) -> None:
    """GPT-2 on the Hub: `h.0…` in its file, `transformer.h.0…` in its model, where weights are needed too."""
    from tests.benchmarks.convert_folds import gpt2

    base = gpt2(tmp_path / "base")
    settings = {"r": 4, "fan_in_fan_out": True, "target_modules": ["c_attn", "c_fc"]}
    source = build(base, tmp_path / "source", "Deft", settings)
    wanted = oracle.deltas(base, source)
    shutil.copytree(base.folder, tmp_path / "short")
    weights = load_file(base.folder / "model.safetensors")
    short = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    save_file(short, tmp_path / "short" / "model.safetensors", metadata={"format": "pt"})
    assert oracle.worst(updates(folded(source, resolve(str(tmp_path / "short")))), wanted) < 1e-6


def test_eight_bit_weights_that_a_scale_multiplies_are_no_plain_numbers(tmp_path: Path) -> None:
    for scale in ("weight_scale", "weight_scale_inv"):
        folder = tmp_path / scale
        folder.mkdir()
        stored = torch.ones(4, 4).to(torch.float8_e4m3fn)
        tensors = {"w.weight": stored, f"w.{scale}": torch.ones(1), "v.weight": stored.clone()}
        save_file(tensors, folder / "model.safetensors")
        weights = open_base_weights(str(folder))
        assert weights.tensor("v.weight").shape == (4, 4)
        with pytest.raises(RefusedError) as caught:
            weights.tensor("w.weight")
        assert caught.value.code == "ZV050"
        with pytest.raises(RefusedError):
            list(weights.rows("w.weight", count=2))


def test_an_output_embedding_of_its_own_is_part_of_a_fine_tune(tmp_path: Path) -> None:
    """The base ties it to the input embedding, the fine-tune does not: no name of both holds the change."""
    from tests.conftest import build_tiny_base

    folder = build_tiny_base(tmp_path / "base")
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    base = resolve(str(folder))
    shutil.copytree(folder, tmp_path / "tuned")
    key = "model.layers.0.self_attn.q_proj.weight"
    delta = torch.outer(torch.ones(weights["model.embed_tokens.weight"].shape[0]), torch.arange(32.0))
    tuned = {**weights, key: weights[key] + 1, "lm_head.weight": weights["model.embed_tokens.weight"] + delta}
    save_file(tuned, tmp_path / "tuned" / "model.safetensors", metadata={"format": "pt"})
    checkpoint = extract(tmp_path / "tuned", base, rank=2)
    assert set(checkpoint.modules) == {"lm_head", key.removesuffix(".weight")}
    found = updates(fold(checkpoint, base.linears))["lm_head"]
    assert float((found - delta).norm() / delta.norm()) < 1e-5


@pytest.mark.parametrize("variant", ["velora_config", "monteclora_config"])
def test_what_acts_in_training_only_is_left_out(variant: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    from peft.tuners.lora.config import MontecloraConfig, VeloraConfig

    made = VeloraConfig(num_groups=4) if variant == "velora_config" else MontecloraConfig()
    source = build(tiny_base, tmp_path / "source", "Lora", {"r": 4, variant: made})
    assert oracle.worst(updates(folded(source, tiny_base)), oracle.deltas(tiny_base, source)) < 1e-7
    lost = read_checkpoint(Source.open(source), tiny_base).lost
    assert any(f"lora_{variant.partition('_')[0]}" in line for line in lost)


def test_hira_takes_the_rank_of_its_tensors(tiny_base: BaseModel, tmp_path: Path) -> None:
    """PEFT 0.21.2 names a rank_pattern in its config, and saves other ranks than it says."""
    source = build(tiny_base, tmp_path / "source", "Hira", {"r": 4, "rank_pattern": {"q_proj": 2}})
    wanted = oracle.deltas(tiny_base, source)
    result = folded(source, tiny_base, max_error=0.3)
    assert oracle.worst(updates(result), wanted) == pytest.approx(result.fold_error, abs=1e-6)


def test_an_mlx_folder_without_a_tensor_is_refused(tiny_base: BaseModel, tmp_path: Path) -> None:
    made = foreign.mlx(tiny_base, tmp_path / "adapter")
    save_file({}, made.path / "adapters.safetensors")
    (made.path / "adapter_config.json").write_text('{"fine_tune_type": "lora"}')
    assert refused(made.path, tiny_base) == "ZV016"


def test_a_file_beside_a_config_that_may_be_another_ones_is_not_read_without_it(
    make_adapter: Make, tiny_base: BaseModel
) -> None:
    folder = make_adapter()
    whole = updates(folded(folder / "adapter_model.safetensors", tiny_base))  # by its folder's config
    assert oracle.worst(whole, oracle.deltas(tiny_base, folder)) < 1e-6
    file = (folder / "adapter_model.safetensors").rename(folder / "mine.safetensors")
    with pytest.raises(NotFoundError, match=r"mine\.safetensors lies beside") as refused:
        Source.open(file)
    assert "adapter_model.safetensors" in refused.value.hint
