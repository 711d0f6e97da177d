"""Every reason to refuse has an adapter that is refused for it, and an untouched one that is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.converters import oracle
from tests.source_tree import ROOT
from zoo.converters.readers import read_checkpoint
from zoo.converters.refusal import RULES
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel

Make = Callable[..., Path]
PREFIX = "base_model.model."
Q = f"{PREFIX}model.layers.0.self_attn.q_proj"


def with_tensor(name: str, *shape: int) -> Callable[[Path], Path]:
    return lambda folder: oracle.edit_weights(folder, lambda weights: {**weights, name: torch.ones(shape)})


def with_config(**changes: Any) -> Callable[[Path], Path]:
    return lambda folder: oracle.edit_config(folder, **changes)


def without(part: str) -> Callable[[Path], Path]:
    return lambda folder: oracle.edit_weights(folder, lambda w: {n: t for n, t in w.items() if part not in n})


def with_nan(folder: Path) -> Path:
    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights[f"{Q}.lora_B.weight"][0, 0] = torch.nan
        return weights

    return oracle.edit_weights(folder, change)


def with_folder(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        return folder

    return make


BROKEN: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "another peft_type": ("ZV001", with_config(peft_type="PREFIX_TUNING")),
    "another peft_type's name on a LoRA": ("ZV016", with_config(peft_type="IA3")),
    "bias all": ("ZV002", with_config(bias="all")),
    "bias lora_only": ("ZV002", with_config(bias="lora_only")),
    "modules_to_save": ("ZV003", with_config(modules_to_save=["lm_head"])),
    "trainable tokens": ("ZV004", with_config(trainable_token_indices=[3])),
    "trainable tokens in the file": (
        "ZV004",
        with_tensor(f"{PREFIX}model.embed_tokens.token_adapter.trainable_tokens_delta", 1, 32),
    ),
    "embedding": ("ZV005", with_tensor(f"{PREFIX}model.embed_tokens.lora_embedding_A", 4, 8)),
    "pissa": ("ZV006", with_config(init_lora_weights="pissa_niter_4")),
    "olora": ("ZV006", with_config(init_lora_weights="olora")),
    "corda": ("ZV006", with_config(init_lora_weights="corda")),
    "lora-ga": ("ZV006", with_config(init_lora_weights="lora_ga")),
    "loftq": ("ZV007", with_config(init_lora_weights="loftq")),
    "loftq config": ("ZV007", with_config(loftq_config={"loftq_bits": 4})),
    "dora": ("ZV008", with_config(use_dora=True)),
    "dora in the file": ("ZV008", with_tensor(f"{Q}.lora_magnitude_vector", 32)),
    "layer_replication": ("ZV009", with_config(layer_replication=[[0, 2], [1, 2]])),
    "target_parameters": ("ZV010", with_config(target_parameters=["mlp.experts.gate_up_proj"])),
    "lora_bias": ("ZV011", with_config(lora_bias=True)),
    "lora_bias in the file": ("ZV011", with_tensor(f"{Q}.lora_B.bias", 32)),
    "kasa": ("ZV016", with_config(kasa_config={"beta": 1.0})),
    "kasa in the file": ("ZV016", with_tensor(f"{Q}.lora_diag", 4)),
    "adalora in the file": ("ZV012", with_tensor(f"{Q}.lora_E", 4, 1)),
    "arrow": ("ZV012", with_config(arrow_config={"top_k": 3})),
    "hidden pissa": ("ZV013", with_folder("pissa_backup")),
    "an empty pissa_init": ("ZV013", with_folder("pissa_init")),
    "a stray tensor": ("ZV015", with_tensor(f"{PREFIX}score.weight", 2, 32)),
    "a changed embedding": ("ZV015", with_tensor(f"{PREFIX}model.embed_tokens.weight", 261, 32)),
    "no factors": ("ZV016", without("lora_")),
    "half a module": ("ZV016", without("layers.0.self_attn.q_proj.lora_B")),
    "two adapters": ("ZV016", with_tensor(f"{Q}.lora_A.other.weight", 4, 32)),
    "another rank": ("ZV016", with_config(r=5)),
    "nan": ("ZV016", with_nan),
    "integers": (
        "ZV016",
        lambda folder: oracle.edit_weights(folder, lambda w: {n: t.to(torch.int32) for n, t in w.items()}),
    ),
    "an unknown module": (
        "ZV017",
        lambda folder: oracle.edit_weights(
            folder, lambda w: {n.replace("q_proj", "query_proj"): t for n, t in w.items()}
        ),
    ),
    "another width": (
        "ZV017",
        lambda folder: oracle.edit_weights(
            folder, lambda w: {n: t[:, :16].clone() if "lora_A" in n else t for n, t in w.items()}
        ),
    ),
    "a residual base": ("ZV018", with_config(base_model_name_or_path="someone/tiny-pissa-r16-res")),
    "a catastrophic pattern": ("ZV020", with_config(rank_pattern={"(.*)*Z(.*)*Y(.*)*X": 4})),
}


def read_whole(folder: Path, base: BaseModel) -> int:
    return sum(
        load().low_rank().b.shape[0] for load in read_checkpoint(Source.open(folder), base).modules.values()
    )


@pytest.mark.parametrize(("code", "break_it"), BROKEN.values(), ids=BROKEN)
def test_it_is_refused_by_its_code(
    code: str, break_it: Callable[[Path], Path], make_adapter: Make, tiny_base: BaseModel
) -> None:
    source = make_adapter()
    assert read_whole(source, tiny_base) > 0
    with pytest.raises(RefusedError) as refused:
        read_whole(break_it(source), tiny_base)
    assert refused.value.code == code
    assert refused.value.hint
    assert "\n" not in refused.value.message


def test_several_reasons_are_all_named(make_adapter: Make, tiny_base: BaseModel) -> None:
    source = oracle.edit_config(make_adapter(), bias="all", use_dora=True, modules_to_save=["lm_head"])
    with pytest.raises(RefusedError, match=r"ZV002: .*\(and ZV003, ZV008\)"):
        read_whole(source, tiny_base)


def test_every_rule_has_a_fixture() -> None:
    assert {rule.code for rule in RULES} <= {code for code, _ in BROKEN.values()}


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    import re

    sources = [*(ROOT / "converters").rglob("*.py"), ROOT / "zoo" / "conversion.py"]
    used = {code for path in sources for code in re.findall(r"ZV\d{3}", path.read_text())}
    pages = {path.stem for path in (ROOT / "validators" / "pages").glob("ZV*.md")}
    assert used == pages


@pytest.mark.parametrize("kind", ["bias", "modules_to_save", "dora", "pissa"])
def test_what_peft_itself_saves_is_refused(kind: str, make_adapter: Make, tiny_base: BaseModel) -> None:
    settings: dict[str, dict[str, Any]] = {
        "bias": {"bias": "all"},
        "modules_to_save": {"modules_to_save": ["norm"]},
        "dora": {"use_dora": True},
        "pissa": {"init_lora_weights": "pissa"},
    }
    with pytest.raises(RefusedError):
        read_whole(make_adapter(**settings[kind]), tiny_base)
