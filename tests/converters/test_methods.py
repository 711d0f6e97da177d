"""PEFT's other methods against PEFT: what it computes with a saved checkpoint, and what zoo makes of it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file

from tests.converters import oracle
from tests.converters.test_readers import folded, updates
from zoo.converters.readers import read_checkpoint
from zoo.converters.readers.methods import METHODS, NO_UPDATE
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel, load_model

Make = Callable[..., Path]
TARGETS = ["q_proj", "k_proj", "down_proj"]
EXACT: dict[str, tuple[str, dict[str, Any]]] = {
    "adalora": ("AdaLora", {"init_r": 6, "target_r": 4, "total_step": 10, "lora_alpha": 5}),
    "loha": ("LoHa", {"r": 3, "alpha": 5}),
    "loha patterns": ("LoHa", {"r": 3, "rank_pattern": {"k_proj": 2}, "alpha_pattern": {"q_proj": 7}}),
    "lokr": ("LoKr", {"r": 2, "alpha": 5}),
    "lokr both": ("LoKr", {"r": 1, "decompose_both": True}),
    "lokr whole": ("LoKr", {"r": 16}),
    "lokr factor": ("LoKr", {"r": 2, "decompose_factor": 2}),
    "vera": ("Vera", {"r": 6}),
    "vera without its projections": ("Vera", {"r": 6, "save_projection": False}),
    "pvera": ("Pvera", {"r": 6}),
    "delora": ("Delora", {"r": 4}),
    "gralora": ("Gralora", {"r": 4, "gralora_k": 2, "alpha": 6}),
    "gralora hybrid": ("Gralora", {"r": 4, "gralora_k": 4, "hybrid_r": 2}),
    "miss": ("Miss", {"r": 4}),
    "miss uneven": ("Miss", {"r": 5}),
    "miss mini": ("Miss", {"r": 4, "init_weights": "mini", "mini_r": 4}),
    "vb-lora": ("VBLoRA", {"r": 4, "num_vectors": 24, "vector_length": 8}),
    "vb-lora top-k": (
        "VBLoRA",
        {"r": 4, "num_vectors": 24, "vector_length": 8, "save_only_topk_weights": True},
    ),
    "hra": ("HRA", {"r": 4}),
    "hra with gram-schmidt": ("HRA", {"r": 4, "apply_GS": True}),
    "deft": ("Deft", {"r": 4, "alpha": 6}),
    "deft qr": ("Deft", {"r": 4, "decomposition_method": "qr"}),
    "para": ("Deft", {"r": 4, "para": True}),
}
FROZEN = ("vera_A", "vera_B", "delora_w_norm", "base_layer")


def build(base: BaseModel, folder: Path, kind: str, settings: dict[str, Any]) -> Path:
    """An adapter of another method, saved by PEFT, with everything that it trains drawn at random."""
    targets = {} if "target_modules" in settings else {"target_modules": TARGETS}
    config = getattr(peft, f"{kind}Config")(task_type="CAUSAL_LM", **targets, **settings)
    torch.manual_seed(3)
    model: Any = peft.get_peft_model(load_model(base), config)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.5)
    model.peft_config["default"].base_model_name_or_path = base.id
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


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


DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "oft": ("OFT", {"oft_block_size": 8}),
    "oft shared": ("OFT", {"oft_block_size": 8, "block_share": True}),
    "oft cayley": ("OFT", {"oft_block_size": 8, "use_cayley_neumann": False}),
    "boft": ("BOFT", {"boft_block_size": 8}),
    "ia3": ("IA3", {"target_modules": TARGETS, "feedforward_modules": ["down_proj"]}),
    "hira": ("Hira", {"r": 4}),
    "c3a": ("C3A", {"block_size": 8}),
    "fourierft": ("FourierFT", {"n_frequency": 40, "scaling": 9.0}),
    "shira": ("Shira", {"r": 2, "random_seed": 3}),
    "randlora": ("RandLora", {"r": 4}),
    "dora": ("Lora", {"r": 4, "use_dora": True, "use_rslora": True}),
}


def best(deltas: dict[str, torch.Tensor], rank: int) -> float:
    """The smallest error that any factors of a rank could have, for the worst module."""
    errors = []
    for delta in deltas.values():
        s = torch.linalg.svdvals(delta)
        errors.append(float(s[rank:].norm() / s.norm()))
    return max(errors)


@pytest.mark.filterwarnings("ignore:.*(CUDA|butterfly|Sparse invariant):UserWarning")  # of BOFT and SHiRA
@pytest.mark.parametrize(("kind", "settings"), DENSE.values(), ids=DENSE)
def test_full_rank_is_refused_with_its_error_or_accepted_within_one(
    kind: str, settings: dict[str, Any], tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", kind, settings)
    wanted = oracle.deltas(tiny_base, source)
    with pytest.raises(RefusedError) as refused:
        folded(source, tiny_base)
    assert refused.value.code == ("ZV008" if kind == "Lora" else "ZV023")
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


@pytest.mark.parametrize("kind", NO_UPDATE)
def test_what_updates_no_weight_is_refused_by_name(
    kind: str, make_adapter: Make, tiny_base: BaseModel
) -> None:
    with pytest.raises(RefusedError, match=f"{kind} (adds|weighs|trains|routes|puts)") as refused:
        folded(oracle.edit_config(make_adapter(), peft_type=kind), tiny_base)
    assert refused.value.code == "ZV001"


def test_every_method_of_peft_is_known_or_refused() -> None:
    known = {*METHODS, *NO_UPDATE, "LORA"}
    unknown = {kind.value for kind in peft.PeftType} - known
    without_formula = {
        "ADAMSS", "FROD", "GLORA", "OSF", "PSOFT", "ROAD", "SHADOW", "SUPERTUNING", "TINYLORA", "UNILORA",
        "WAVEFT",
    }  # fmt: skip
    assert unknown == without_formula


def test_every_method_has_a_test() -> None:
    tested = {kind.upper() for kind, _ in {**EXACT, **DENSE}.values()}
    assert set(METHODS) - tested == {"BONE"}  # PEFT no longer has Bone; MiSS computes the same


def test_a_module_that_the_file_lacks_is_said(tiny_base: BaseModel, tmp_path: Path) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT["hra"])
    assert not read_checkpoint(Source.open(source), tiny_base).warnings
    oracle.edit_weights(source, lambda w: {n: t for n, t in w.items() if "0.self_attn.q_proj" not in n})
    (said,) = read_checkpoint(Source.open(source), tiny_base).warnings
    assert "1 modules of target_modules, such as model.layers.0.self_attn.q_proj" in said


@pytest.mark.parametrize(
    "name", ["loha", "lokr", "vera", "delora", "gralora", "miss", "vb-lora", "hra", "deft"]
)
def test_a_rank_that_the_config_denies_is_refused(name: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT[name])
    with pytest.raises(RefusedError) as refused:
        folded(oracle.edit_config(source, r=5), tiny_base)
    assert refused.value.code == "ZV016"
