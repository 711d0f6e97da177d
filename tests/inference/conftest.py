"""Tiny models of several architectures, each with an adapter that PEFT saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_adapter
from zoo.models import BaseModel, resolve

SMALL: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# name: config class, settings of its own, adapted modules
FAMILIES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "llama": ("LlamaConfig", {}, ["q_proj", "k_proj", "v_proj"]),
    "llama-untied-head": ("LlamaConfig", {"tie_word_embeddings": False}, ["q_proj", "down_proj", "lm_head"]),
    "llama-all-heads": ("LlamaConfig", {"num_key_value_heads": 4}, ["q_proj", "o_proj"]),
    "qwen2": ("Qwen2Config", {}, ["q_proj", "k_proj", "v_proj", "up_proj"]),
    "qwen3": ("Qwen3Config", {}, ["q_proj", "k_proj", "v_proj"]),
    "granite": (
        "GraniteConfig",
        {"attention_multiplier": 0.3, "residual_multiplier": 0.5, "logits_scaling": 2.0},
        ["q_proj", "v_proj"],
    ),
    "mistral-sliding": ("MistralConfig", {"sliding_window": 8}, ["q_proj", "k_proj", "v_proj"]),
    "gemma2": (
        "Gemma2Config",
        {"sliding_window": 8, "query_pre_attn_scalar": 8},
        ["q_proj", "k_proj", "v_proj"],
    ),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4}, ["c_attn"]),
}
IN_PLACE = ["llama", "llama-untied-head", "llama-all-heads", "qwen2", "qwen3", "granite"]


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[BaseModel, Path]]:
    """Base and adapter folder of one of `FAMILIES`, made once."""
    made: dict[str, tuple[BaseModel, Path]] = {}

    def get(name: str) -> tuple[BaseModel, Path]:
        if name not in made:
            made[name] = build(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


def build(name: str, folder: Path) -> tuple[BaseModel, Path]:
    import torch
    import transformers

    kind, settings, targets = FAMILIES[name]
    shape = {key: SMALL[key] for key in ("vocab_size", "bos_token_id", "eos_token_id")}
    config = getattr(transformers, kind)(**((shape if name == "gpt2" else SMALL) | settings))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5)  # as initialised every next token is as likely as any other
    model.save_pretrained(folder / "base")
    base = resolve(str(folder / "base"))
    # a Conv1D keeps its weight transposed, and PEFT wants to be told
    adapter = build_adapter(base, folder / "adapter", target_modules=targets, fan_in_fan_out=name == "gpt2")
    return base, adapter
