"""An adapter as MLX-LM loads it: factors transposed, and one scale that is the whole factor.

MLX-LM has no aLoRA: what is written here acts on every token.
Source: ml-explore/mlx-lm 0.32, mlx_lm/tuner/lora.py (`LoRALinear.__call__`), tuner/utils.py (`load_adapters`,
`linear_to_lora_layers`).
"""

import json
import re
from pathlib import Path

from zoo.converters.exporters.architectures import counted
from zoo.converters.exporters.normal_form import NormalForm
from zoo.errors import RefusedError

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
_IN_LAYER = re.compile(r"model\.layers\.\d+\.(.+)")


def write_mlx(form: NormalForm, folder: Path) -> None:
    """Writes MLX-LM's two files into an existing folder.

    Args:
        form: the adapter.
        folder: where to write.

    Raises:
        RefusedError: ZX006, a module that MLX-LM would not find under the name it has in transformers.
        EngineError: ZX002, the base does not say how many layers it has.
    """
    from safetensors.torch import save_file

    keys = sorted({_key(path) for path in form.modules})
    config = {
        "fine_tune_type": "lora",
        "lora_parameters": {"dropout": 0.0, "keys": keys, "rank": form.folded.rank, "scale": 1.0},
        "num_layers": counted(form.base.config, "num_hidden_layers"),  # all: it counts from the last
    }
    content = {}
    for path, (a, b) in form.modules.items():
        content[f"{path}.lora_a"] = a.T.contiguous()
        content[f"{path}.lora_b"] = b.T.contiguous()
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(content, folder / WEIGHTS, metadata={"format": "mlx"})
    (folder / WEIGHTS).chmod(0o644)


def _key(path: str) -> str:
    """A module's name inside its layer, by which MLX-LM chooses what to adapt; the whole of it outside."""
    if path == "lm_head":
        return path
    found = _IN_LAYER.fullmatch(path)
    if found is None:
        raise RefusedError(
            f"{path[:120]} is no module of a model that MLX-LM lays out as transformers does",
            code="ZX006",
            hint="adapt the linear layers of attention and MLP of a Llama-like base",
        )
    return found[1]
