"""PEFT's other methods against PEFT: what it computes with a saved checkpoint, and what zoo makes of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.converters import oracle
from tests.converters.peft_methods import DENSE, EXACT, build
from tests.converters.test_readers import folded, updates
from zoo.converters.readers import read_checkpoint
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel, load_model, resolve

Make = Callable[..., Path]


@pytest.mark.filterwarnings("ignore:Specified to not:UserWarning")  # PEFT, of projections from a seed
@pytest.mark.parametrize(("kind", "settings"), EXACT.values(), ids=EXACT)
def test_a_method_is_folded_to_what_peft_computes(
    kind: str, settings: dict[str, Any], tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", kind, settings)
    result = folded(source, tiny_base)
    wanted = oracle.deltas(tiny_base, source)
    assert oracle.worst(updates(result), wanted) < 1e-6
    assert result.fold_error < 1e-6


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("adalora", {"init_r": 12}),
        ("adalora", {"lora_alpha": 6}),
        ("loha", {"alpha": 6}),
        ("lokr", {"alpha": 6}),
        ("vera without its projections", {"projection_prng_key": 1}),
        ("gralora", {"alpha": 5}),
        ("deft", {"alpha": 5}),
        ("deft", {"decomposition_method": "qr"}),
        ("hra", {"apply_GS": True}),
        ("tinylora from its seed", {"projection_seed": 43}),
        ("unilora from its seed", {"proj_seed": 8}),
        ("psoft", {"use_cayley_neumann": True}),
        ("psoft like pissa", {"ab_svd_init": "psoft_init"}),
        ("peanut", {"scaling": 1.0}),
        ("peanut deep", {"act_fn": "relu"}),
    ],
)
@pytest.mark.filterwarnings("ignore:Specified to not:UserWarning")
def test_the_comparison_notices_another_setting(
    name: str, change: dict[str, Any], tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT[name])
    wanted = oracle.deltas(tiny_base, source)
    assert oracle.worst(updates(folded(oracle.edit_config(source, **change), tiny_base)), wanted) > 0.01


@pytest.mark.filterwarnings(
    "ignore:.*rank_pattern keys did not match:RuntimeWarning"
)  # PEFT, of its own masks
def test_a_pruned_adalora_keeps_its_scale(tiny_base: BaseModel, tmp_path: Path) -> None:
    """Pruning takes rows out and leaves masks in the config; the divisor stays the initial rank."""
    config = peft.AdaLoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_r=6, total_step=10)
    model: Any = peft.get_peft_model(load_model(tiny_base), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_E" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    kept = [True, False, True, False, False, True]
    model.peft_config["default"].rank_pattern = {
        f"model.layers.{layer}.self_attn.q_proj.lora_E.default": kept for layer in (0, 1)
    }
    model.save_pretrained(str(tmp_path / "source"), save_embedding_layers=False)
    result = folded(tmp_path / "source", tiny_base)
    assert result.rank == 3
    assert oracle.worst(updates(result), oracle.deltas(tiny_base, tmp_path / "source")) < 1e-6


SWAPS = {
    "loha": ("hada_w1_b", "hada_w2_b"),
    "delora": ("layers.0.self_attn.q_proj.delora_w_norm", "layers.1.self_attn.q_proj.delora_w_norm"),
    "vera": ("layers.0.self_attn.q_proj.vera_lambda_d", "layers.1.self_attn.q_proj.vera_lambda_d"),
    "hra": ("layers.0.self_attn.q_proj.hra_u", "layers.1.self_attn.q_proj.hra_u"),
    "miss": ("layers.0.self_attn.q_proj.miss_block", "layers.1.self_attn.q_proj.miss_block"),
    "tinylora": ("tinylora_v.0", "tinylora_v.1"),
    "psoft": ("psoft_R.vector_a", "psoft_R.vector_b"),
    "osf": ("layers.0.self_attn.q_proj.osf_svd", "layers.1.self_attn.q_proj.osf_svd"),
    "peanut deep": ("peanut_encoders.0", "peanut_encoders.1"),
}


@pytest.mark.parametrize("name", SWAPS)
def test_the_comparison_notices_another_tensor(name: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    """A reader that took one tensor for another of the same shape would be found out."""
    source = build(tiny_base, tmp_path / "source", *EXACT[name])
    wanted = oracle.deltas(tiny_base, source)
    left, right = SWAPS[name]

    def swap(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {n.replace(left, "#").replace(right, left).replace("#", right): t for n, t in weights.items()}

    found = updates(folded(oracle.edit_weights(source, swap), tiny_base))
    assert oracle.worst(found, wanted) > 0.01


def best(deltas: dict[str, torch.Tensor], rank: int) -> float:
    """The smallest error that any factors of a rank could have, for the worst module."""
    errors = []
    for delta in deltas.values():
        s = torch.linalg.svdvals(delta)
        errors.append(float(s[rank:].norm() / s.norm()))
    return max(errors)


@pytest.mark.filterwarnings("ignore:.*(CUDA|butterfly|Sparse invariant):UserWarning")  # BOFT, SHiRA, FRoD
@pytest.mark.filterwarnings("ignore:save_precomputed_indices=False:UserWarning")  # PEFT, when it loads one
@pytest.mark.parametrize(("kind", "settings"), DENSE.values(), ids=DENSE)
def test_full_rank_is_refused_with_its_error_or_accepted_within_one(
    kind: str, settings: dict[str, Any], tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", kind, settings)
    wanted = oracle.deltas(tiny_base, source)
    with pytest.raises(RefusedError) as refused:
        folded(source, tiny_base)
    assert refused.value.code == ("ZV008" if kind == "Lora" else "ZV023")
    assert "--recover DATA distils" in refused.value.hint
    said = dict(re.findall(r"([\d.]+) at rank (\d+)", refused.value.message))
    assert {int(rank): float(error) for error, rank in said.items()} == pytest.approx(
        {rank: best(wanted, rank) for rank in (8, 16, 32)}, abs=6e-4
    )
    result = folded(source, tiny_base, max_error=0.4)
    found = oracle.worst(updates(result), wanted)
    assert found == pytest.approx(result.fold_error, abs=1e-6)
    assert found <= 0.4 < best(wanted, result.rank - 1)


def test_ia3_over_a_bias_is_refused(tiny_base: BaseModel) -> None:
    """It scales the whole output, bias included, where the other methods leave the bias alone."""
    from zoo.converters.variants.dense import ia3
    from zoo.converters.variants.stored import Stored

    def stored(vector: torch.Tensor) -> Stored:
        return Stored(
            path="q_proj", shape=(4, 6), tensors={"ia3_l": vector}, settings={}, rank=1, alpha=1.0,
            widest=(4, 6), weight=lambda: torch.ones(4, 6), has_bias=True,
        )  # fmt: skip

    assert ia3(stored(torch.ones(1, 6))).delta().shape == (4, 6)
    with pytest.raises(RefusedError) as refused:
        ia3(stored(torch.ones(4, 1)))
    assert refused.value.code == "ZV011"


@pytest.mark.parametrize("name", ["adalora", "loha", "vera", "hra", "gralora hybrid"])
def test_the_folded_lora_gives_the_same_logits_in_peft(
    name: str, tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT[name])
    result = folded(source, tiny_base)
    (tmp_path / "folded").mkdir()
    save_file(dict(result.weights), tmp_path / "folded" / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": result.rank,
        "lora_alpha": result.rank,
        "target_modules": list(result.targets),
    }
    (tmp_path / "folded" / "adapter_config.json").write_text(json.dumps(config))
    ids = [1, 5, 9, 30, 41, 7, 100]
    wanted = oracle.logits(tiny_base, source, ids)
    found = oracle.logits(tiny_base, tmp_path / "folded", ids)
    effect = float((wanted - oracle.logits(tiny_base, None, ids)).abs().max())
    assert effect > 0.01
    assert float((found - wanted).abs().max()) < 1e-3 * effect
    oracle.edit_config(tmp_path / "folded", lora_alpha=result.rank * 1.1)
    wrong = oracle.logits(tiny_base, tmp_path / "folded", ids)
    assert float((wrong - wanted).abs().max()) > 1e-2 * effect


def test_kasa_is_folded_over_the_whole_base_weight(tiny_base: BaseModel, tmp_path: Path) -> None:
    from peft.tuners.lora.config import KasaConfig

    source = build(
        tiny_base, tmp_path / "source", "Lora", {"r": 4, "lora_alpha": 6, "kasa_config": KasaConfig()}
    )
    result = folded(source, tiny_base)
    truncated = oracle.deltas(tiny_base, source)  # over PEFT's truncated base
    original = load_model(tiny_base)
    wanted = {}
    for path, delta in truncated.items():
        weight = original.get_submodule(path).get_parameter("weight").detach().double()
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        wanted[path] = delta - (u[:, -4:] * s[-4:]) @ v[-4:]
    assert result.rank == 8
    assert oracle.worst(updates(result), wanted) < 1e-6
    assert oracle.worst(updates(result), truncated) > 1e-3


def test_a_module_that_the_file_lacks_is_said(tiny_base: BaseModel, tmp_path: Path) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT["hra"])
    assert not read_checkpoint(Source.open(source), tiny_base).warnings
    oracle.edit_weights(source, lambda w: {n: t for n, t in w.items() if "0.self_attn.q_proj" not in n})
    (said,) = read_checkpoint(Source.open(source), tiny_base).warnings
    assert "1 modules of target_modules, such as model.layers.0.self_attn.q_proj" in said


@pytest.mark.parametrize(
    "name",
    [
        "loha",
        "lokr",
        "vera",
        "delora",
        "gralora",
        "miss",
        "vb-lora",
        "hra",
        "deft",
        "unilora",
        "psoft",
        "peanut",
    ],
)
def test_a_rank_that_the_config_denies_is_refused(name: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT[name])
    with pytest.raises(RefusedError) as refused:
        folded(oracle.edit_config(source, r=5), tiny_base)
    assert refused.value.code == "ZV016"


def in_bfloat16(base: BaseModel, folder: Path) -> BaseModel:
    """A copy of a base with its weights in 16 bits, as most are published."""
    shutil.copytree(base.folder, folder)
    file = folder / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    return resolve(str(folder))


@pytest.mark.parametrize(
    ("kind", "settings", "bound"),
    # PEFT makes OSF's weight again from singular vectors in float32, which moves it by some 1e-7 of itself
    [
        ("HRA", {"r": 4}, 1e-6),
        ("Deft", {"r": 4, "decomposition_method": "qr"}, 1e-3),
        ("Deft", {"r": 4}, 1e-3),
        ("OSF", {"effective_rank": 0.85}, 1e-3),
    ],
)
def test_what_was_trained_a_little_is_folded_too(
    kind: str, settings: dict[str, Any], bound: float, tiny_base: BaseModel, tmp_path: Path
) -> None:
    """HRA begins with equal pairs of reflections, DEFT with what it takes out, OSF with the weight itself."""
    base = in_bfloat16(tiny_base, tmp_path / "base") if kind == "Deft" else tiny_base
    source = build(base, tmp_path / "source", kind, settings, size=1e-3)
    result = folded(source, base)
    assert result.fold_error < 1e-6
    assert oracle.worst(updates(result), oracle.deltas(base, source)) < bound


@pytest.mark.filterwarnings("ignore:.*(CUDA|butterfly):UserWarning")
@pytest.mark.parametrize(
    ("kind", "change", "word"),
    [
        ("oft", {"coft": True}, "merge_and_unload"),
        ("boft", {}, "merge_and_unload"),
        ("pvera", {"sample_at_inference": True}, "mean"),
    ],
)
def test_a_mode_without_a_fixed_update_is_refused_with_what_to_do(
    kind: str, change: dict[str, Any], word: str, tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = oracle.edit_config(build(tiny_base, tmp_path / "source", *(EXACT | DENSE)[kind]), **change)
    if kind == "boft":
        oracle.edit_weights(
            source, lambda w: {n: t.repeat(2, 1, 1, 1) if "boft_R" in n else t for n, t in w.items()}
        )
    with pytest.raises(RefusedError) as refused:
        folded(source, tiny_base, max_error=0.5)
    assert refused.value.code == "ZV012"
    assert word in refused.value.hint
