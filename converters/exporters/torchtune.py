"""An adapter as torchtune's own checkpoint: its module names, and query and key rows in its rotary order.

torchtune has no aLoRA: what is written here acts on every token.
Source: see `zoo.converters.torchtune_names`; torchtune's checkpointer loads `weights_only`.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.converters.exporters.architectures import heads_of, paired_rows
from zoo.converters.exporters.normal_form import NormalForm
from zoo.converters.torchtune_names import MODULES, REORDERED, to_torchtune
from zoo.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, CONFIG = "adapter_model.pt", "adapter_config.json"


def write_torchtune(form: NormalForm, folder: Path) -> None:
    """Writes torchtune's adapter checkpoint, and the config it puts beside one, into an existing folder.

    Args:
        form: the adapter.
        folder: where to write.

    Raises:
        RefusedError: ZX005, torchtune has no such module, or zoo does not know its layout of the base.
        EngineError: ZX002, the base does not say how many heads it has.
    """
    import torch

    kind = str(form.base.config.get("model_type"))
    if kind not in REORDERED:
        raise _refused(f"the architecture {kind!r}", f"known are {', '.join(sorted(REORDERED))}")
    content: dict[str, Tensor] = {}
    for path, (a, b) in form.modules.items():
        name = to_torchtune(path)
        if name is None:
            raise _refused(f"the module {path[:120]}", "adapt the linear layers of attention and MLP")
        content[f"{name}.lora_a.weight"] = a.contiguous().clone()
        content[f"{name}.lora_b.weight"] = _rows(b, path, form.base.config, reordered=REORDERED[kind])
    torch.save(content, folder / WEIGHTS)
    config = {
        "base_model_name_or_path": form.base.id,
        "lora_alpha": form.folded.rank,
        "peft_type": "LORA",
        "r": form.folded.rank,
        "target_modules": list(form.folded.targets),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _rows(b: "Tensor", path: str, config: Any, *, reordered: bool) -> "Tensor":
    import torch

    heads = heads_of(path, config) if reordered else None
    if not heads:
        return b.contiguous().clone()
    return torch.from_numpy(paired_rows(b.float().numpy(), heads).copy()).to(b.dtype)


def recipe_settings(form: NormalForm) -> dict[str, Any]:
    """What the model section of a torchtune recipe has to say for this checkpoint to load: keys as there."""
    adapted = {path.rpartition(".")[2] for path in form.modules}
    attention = {
        ours.rpartition(".")[2]: theirs.rpartition(".")[2]
        for theirs, ours in MODULES
        if theirs.startswith("attn.")
    }
    return {
        "apply_lora_to_mlp": bool(adapted & {"gate_proj", "up_proj", "down_proj"}),
        "apply_lora_to_output": "lm_head" in adapted,
        "lora_alpha": form.folded.rank,
        "lora_attn_modules": [attention[name] for name in attention if name in adapted],
        "lora_rank": form.folded.rank,
    }


def _refused(what: str, hint: str) -> RefusedError:
    return RefusedError(f"torchtune has no place that zoo knows for {what}", code="ZX005", hint=hint)
