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
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "llama": {},
    "qwen2": {"class": "Qwen2", "num_key_value_heads": 2},  # q, k and v have a bias
    "gpt2": {"class": "GPT2", "n_inner": 64, "initializer_range": 0.3},  # Conv1D, fan_in_fan_out
}


def build_base(folder: Path, architecture: str = "llama", *, seed: int = 0, **settings: Any) -> BaseModel:
    """A two-layer base; the random weights of GPT-2 are widened, because its default is nearly constant."""
    import torch
    import transformers

    build_tiny_base(folder, seed=seed)
    wanted = dict(ARCHITECTURES[architecture])
    if name := wanted.pop("class", ""):
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
        getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")(
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
