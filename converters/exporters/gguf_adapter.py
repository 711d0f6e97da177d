"""An adapter as a GGUF file, as llama.cpp loads it.

Source: ggml-org/llama.cpp, src/llama-adapter.cpp (keys, tensor names, shapes, `scale = alpha / rank`) and
convert_lora_to_gguf.py (the same from PEFT).
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.adapter import AdapterRepo
from zoo.converters.exporters.architectures import architecture, heads_of, paired_rows, tensor_names
from zoo.converters.keys import Part, parse_key
from zoo.errors import MissingExtraError, RefusedError
from zoo.models import BaseModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.specs.adapter_config import AdapterConfig

Kind = Literal["f32", "f16"]
INVOCATION_KEY = "adapter.alora.invocation_tokens"
MAX_NAME = 63  # ggml's GGML_MAX_NAME is 64 with the closing zero


def export_gguf(repo: AdapterRepo, base: BaseModel, target: Path, *, kind: Kind = "f32") -> Path:
    """Writes an adapter in normal form as a GGUF file; an existing file is replaced whole or not at all.

    Args:
        repo: the adapter; `lora_alpha` may differ from `r`, everything else must be in normal form.
        base: its base model: only `config.json` is read.
        target: the file to write.
        kind: the factors' dtype.

    Returns:
        `target`.

    Raises:
        RefusedError: ZX001, the adapter holds what a GGUF adapter cannot say; ZX003, it adapts a module
            that has no counterpart in llama.cpp.
        EngineError: ZX002, the base's architecture is not known.
        MissingExtraError: the `gguf` package is not installed.
    """
    refuse_unsayable(repo.config)
    found = architecture(base.config)
    try:
        import gguf
    except ImportError:
        raise MissingExtraError(
            "writing GGUF needs the gguf package", hint="pip install 'alora-zoo[llama]'"
        ) from None
    import numpy as np

    partial = target.with_name(f".{target.name}.{os.getpid()}")
    writer = gguf.GGUFWriter(partial, arch=found.name)
    try:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_string("general.name", repo.name)
        writer.add_float32("adapter.lora.alpha", float(repo.config.lora_alpha))
        if ids := repo.config.alora_invocation_tokens:
            writer.add_key_value(
                INVOCATION_KEY, list(ids), gguf.GGUFValueType.ARRAY, sub_type=gguf.GGUFValueType.UINT32
            )
        dtype = np.float16 if kind == "f16" else np.float32
        for name, factor in _factors(repo, base.config):
            writer.add_tensor(name, np.ascontiguousarray(factor, dtype=dtype))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def refuse_unsayable(config: "AdapterConfig") -> None:
    """Refuses a config that GGUF has no words for: its one scale is alpha / rank, its only parts A and B.

    Raises:
        RefusedError: ZX001.
    """
    unsaid = {
        "peft_type": config.peft_type.upper() != "LORA",
        "rank_pattern": bool(config.rank_pattern),
        "alpha_pattern": bool(config.alpha_pattern),
        "use_rslora": config.use_rslora,
        "use_dora": config.use_dora,
        "use_qalora": config.use_qalora,
        "use_bdlora": bool(config.use_bdlora),
        "lora_bias": config.lora_bias,
        "bias": config.bias != "none",
        "modules_to_save": bool(config.modules_to_save),
        "trainable_token_indices": bool(config.trainable_token_indices),
        "target_parameters": bool(config.target_parameters),
        "layer_replication": bool(config.layer_replication),
    }
    if named := [key for key, there in unsaid.items() if there]:
        raise RefusedError(
            f"a GGUF adapter cannot say what {', '.join(named)} says",
            code="ZX001",
            hint="zoo convert folds into the weights what can be folded, or refuses",
        )


def _factors(repo: AdapterRepo, config: Mapping[str, Any]) -> "Iterator[tuple[str, npt.NDArray[np.float32]]]":
    """Each factor under its name in GGUF, `[rank, in]` and `[out, rank]`."""
    from safetensors import safe_open

    found, names = architecture(config), tensor_names(config)
    repo.tensors  # noqa: B018 - bounds are checked before the library parses the file
    with safe_open(repo.weights_path, framework="pt") as weights:  # numpy has no bfloat16
        for key in sorted(weights.keys()):
            parsed = parse_key(key)
            name = names.get_name(parsed.path)
            if parsed.part not in (Part.A, Part.B) or name is None:
                raise _no_counterpart(key, found.name)
            full = f"{name}.weight.{'lora_a' if parsed.part is Part.A else 'lora_b'}"
            if len(full) > MAX_NAME:
                raise _no_counterpart(key, found.name)
            factor = weights.get_tensor(key).float().numpy()
            heads = heads_of(parsed.path, config)
            if found.paired and parsed.part is Part.B and heads:
                factor = paired_rows(factor, heads)
            yield full, factor


def _no_counterpart(key: str, architecture_name: str) -> RefusedError:
    return RefusedError(
        f"{key[:120]} has no counterpart in llama.cpp's {architecture_name}",
        code="ZX003",
        hint="adapt the linear layers of attention and MLP only",
    )
