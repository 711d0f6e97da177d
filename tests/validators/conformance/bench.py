"""Tiny bases of several architectures, and the conformance checks run on adapters for them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import build_tiny_base
from zoo.adapter import AdapterRepo
from zoo.models import BaseModel, Dtype, resolve
from zoo.report import Crashed, Flagged, NotApplicable, Outcome, Passed, Skipped
from zoo.validators.check import Context
from zoo.validators.conformance.checks import CONFORMANCE_CHECKS
from zoo.validators.engine import run_checks

INVOCATION = "<|im_start|>check\n"
SAMPLES = [
    [{"role": "user", "content": "the passage answers the question"}],
    [{"role": "system", "content": "check context"}, {"role": "user", "content": "no relevant passage " * 4}],
    [{"role": "user", "content": "yes"}],
]
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_ATTENTION = _LINEAR[:4]
_WINDOW = 8  # tokens; shorter than any prompt here
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
_WIDE = {"num_key_value_heads": 2, "initializer_range": 0.2}  # the default is nearly constant at this size
# settings of the config class; "class" is its name without "Config", "targets" all that PEFT can adapt there
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "llama": {"targets": _LINEAR},
    "qwen2": {"class": "Qwen2", "num_key_value_heads": 2, "targets": _LINEAR},  # q, k and v have a bias
    "gpt2": {  # Conv1D, fan_in_fan_out
        "class": "GPT2", "n_inner": 64, "initializer_range": 0.3, "targets": ("c_attn", "c_proj", "c_fc"),
    },
    "qwen3": {  # q and k are normalised
        "class": "Qwen3", **_WIDE, "head_dim": 16, "targets": (*_LINEAR, "lm_head"),
    },
    "granite": {
        "class": "Granite", **_WIDE, "embedding_multiplier": 2.0, "logits_scaling": 2.0,
        "attention_multiplier": 0.2, "residual_multiplier": 0.5, "targets": _LINEAR,
    },
    "mistral": {"class": "Mistral", **_WIDE, "sliding_window": _WINDOW, "targets": _LINEAR},
    "gemma2": {  # soft-capped scores and logits, every second layer with a window
        "class": "Gemma2", **_WIDE, "head_dim": 16, "sliding_window": _WINDOW,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 4.0, "tie_word_embeddings": False,
        "targets": (*_LINEAR, "lm_head"),
    },
    "gemma3": {
        "class": "Gemma3Text", "model": "Gemma3", **_WIDE, "head_dim": 16,
        "sliding_window": _WINDOW, "layer_types": ["sliding_attention", "full_attention"], "targets": _LINEAR,
    },
    "mixtral": {"class": "Mixtral", **_WIDE, "num_local_experts": 4, "targets": _ATTENTION},
    "qwen2_moe": {
        "class": "Qwen2Moe", **_WIDE, "num_experts": 4, **_EXPERTS,
        "shared_expert_intermediate_size": 32, "targets": _ATTENTION,
    },
    "qwen3_moe": {
        "class": "Qwen3Moe", **_WIDE, "head_dim": 16, "num_experts": 4, **_EXPERTS,
        "targets": _ATTENTION,
    },
    "granite_moe": {
        "class": "GraniteMoe", **_WIDE, "num_local_experts": 4, "num_experts_per_tok": 2,
        "targets": _ATTENTION,
    },
    "phi3": {  # q, k and v in one projection, gate and up in another
        "class": "Phi3", **_WIDE,
        "targets": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    },
}  # fmt: skip
# what every conformance test runs on
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {name: FAMILIES[name] for name in ("llama", "qwen2", "gpt2")}


def adapter_settings(family: str) -> dict[str, Any]:
    """What `LoraConfig` needs to adapt every linear layer of a family."""
    wanted: dict[str, Any] = {"target_modules": list(FAMILIES[family]["targets"])}
    return {**wanted, "fan_in_fan_out": True} if family == "gpt2" else wanted


def build_base(folder: Path, architecture: str = "llama", *, seed: int = 0, **settings: Any) -> BaseModel:
    """A two-layer base of one of the families, with random weights."""
    import torch
    import transformers

    build_tiny_base(folder, seed=seed)
    wanted = dict(FAMILIES[architecture])
    del wanted["targets"]
    if name := wanted.pop("class", ""):
        model = wanted.pop("model", name)
        config = getattr(transformers, f"{name}Config")(
            vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"],
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            **wanted,
            **settings,
        )
        torch.manual_seed(seed)
        (folder / "model.safetensors").unlink()
        getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{model}ForCausalLM")(
            config
        ).save_pretrained(folder)
    return resolve(str(folder))


def invocation_ids(base: BaseModel, text: str = INVOCATION) -> list[int]:
    from zoo.prompts import Prompter

    return list(Prompter(base).encode(text))


def context_of(
    folder: Path, base: BaseModel, *, dtype: Dtype = "float32", samples: Sequence[Any] = tuple(SAMPLES)
) -> Context:
    context = Context(repo=AdapterRepo.open(folder), base=base, dtype=dtype)
    # the cached property set beforehand: few short prompts instead of the corpus
    context.__dict__["prompts"] = context.prompter.prompts(list(samples), context.invocation)
    return context


def outcomes(context: Context, *codes: str) -> dict[str, Outcome]:
    """Runs the conformance checks (those named, and what they require) and returns what each came to."""
    wanted = [c for c in CONFORMANCE_CHECKS if not codes or c.code in codes or c.code == "ZP001"]
    return {result.code: result.outcome for result in run_checks(context, wanted)}


def flagged(found: Mapping[str, Outcome]) -> set[str]:
    return {code for code, outcome in found.items() if isinstance(outcome, Flagged)}


def said(outcome: Outcome) -> str:
    """Everything an outcome says, for a test to look into."""
    match outcome:
        case Flagged(findings=findings):
            return "\n".join(finding.message for finding in findings)
        case Skipped(reason=reason) | NotApplicable(reason=reason):
            return reason
        case Crashed(traceback=traceback):
            return traceback
        case Passed():
            return ""
