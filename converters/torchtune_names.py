"""torchtune's names for modules, and the row order in which it keeps query and key: one table, both ways.

Source: pytorch/torchtune 0.6.1, models/convert_weights.py (`_FROM_HF`, `hf_to_tune`,
`tune_to_peft_adapter_weights`), models/qwen2/_convert_weights.py, models/qwen3/_convert_weights.py,
models/gemma2/_convert_weights.py.
"""

import re
from collections.abc import Mapping

# by `model_type` of config.json: whether query and key rows are turned into rotary pairs on the way in
REORDERED: Mapping[str, bool] = {
    "gemma": True,
    "gemma2": True,
    "llama": True,
    "mistral": True,
    "qwen2": False,
    "qwen3": False,
}
MODULES = (  # in a layer: torchtune's, transformers'
    ("attn.q_proj", "self_attn.q_proj"),
    ("attn.k_proj", "self_attn.k_proj"),
    ("attn.v_proj", "self_attn.v_proj"),
    ("attn.output_proj", "self_attn.o_proj"),
    ("mlp.w1", "mlp.gate_proj"),
    ("mlp.w2", "mlp.down_proj"),
    ("mlp.w3", "mlp.up_proj"),
)
OUTPUT, LM_HEAD = "output", "lm_head"
_THEIRS, _OURS = re.compile(r"layers\.(\d+)\.(.+)"), re.compile(r"model\.layers\.(\d+)\.(.+)")


def to_transformers(name: str) -> str | None:
    """A module's path in transformers; None where there is none that zoo knows."""
    if name == OUTPUT:
        return LM_HEAD
    found = _THEIRS.fullmatch(name)
    known = dict(MODULES).get(found[2]) if found else None
    return f"model.layers.{found[1]}.{known}" if found and known else None


def to_torchtune(path: str) -> str | None:
    """A module's name in torchtune; None where there is none that zoo knows."""
    if path == LM_HEAD:
        return OUTPUT
    found = _OURS.fullmatch(path)
    known = {ours: theirs for theirs, ours in MODULES}.get(found[2]) if found else None
    return f"layers.{found[1]}.{known}" if found and known else None
