"""What llama.cpp calls an architecture, and whether its files keep query and key rows in another order.

Transformers rotates the first half of a head against the second; for some architectures llama.cpp rotates
neighbouring pairs instead, and its converter reorders the rows of the query and key projections to match.
An adapter's lora_B has those rows too. Forgotten, the adapter is half right on a Llama and exactly right on
a Qwen: nothing but a comparison of numbers shows it.

Source: ggml-org/llama.cpp, conversion/llama.py (`LlamaModel.permute` and its subclasses) and
src/llama-model.cpp (`llama_model_rope_type`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from gguf import TensorNameMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture in GGUF.

    Attributes:
        name: `general.architecture`.
        paired: its rotary embedding turns neighbouring pairs, so that query and key rows are reordered.
    """

    name: str
    paired: bool


_PAIRED = (
    *(("llama", "llama"), ("mistral", "llama"), ("mixtral", "llama")),
    *(("granite", "granite"), ("granitemoe", "granitemoe"), ("smollm3", "smollm3"), ("arcee", "arcee")),
)
_HALVES = (
    *(("qwen2", "qwen2"), ("qwen3", "qwen3"), ("qwen2_moe", "qwen2moe"), ("qwen3_moe", "qwen3moe")),
    *(("gemma", "gemma"), ("gemma2", "gemma2"), ("gemma3_text", "gemma3")),
    *(("olmo2", "olmo2"), ("phi3", "phi3")),
)
MOST = 10_000_000  # of anything counted: a vocabulary is the largest
MAX_LAYERS = 1000
# by `model_type` of config.json
ARCHITECTURES: Mapping[str, Architecture] = {
    **{kind: Architecture(name=name, paired=True) for kind, name in _PAIRED},
    **{kind: Architecture(name=name, paired=False) for kind, name in _HALVES},
}


def architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a base model.

    Args:
        config: its `config.json`.

    Raises:
        EngineError: ZX002, zoo does not know how llama.cpp lays this one out.
    """
    kind = config.get("model_type")
    found = ARCHITECTURES.get(kind) if isinstance(kind, str) else None
    if found is None:
        raise EngineError(
            f"no GGUF layout is known for the architecture {kind!r}",
            code="ZX002",
            hint=f"known are {', '.join(sorted(ARCHITECTURES))}",
        )
    return found


def counted(config: Mapping[str, Any], key: str) -> int:
    """A number from `config.json` that is used as a count or a size.

    Raises:
        EngineError: ZX002, it is missing or out of bounds.
    """
    value = config.get(key)
    if not isinstance(value, int) or not 0 < value <= MOST:
        raise EngineError(f"config.json of the base states no usable {key}", code="ZX002")
    return value


def tensor_names(config: Mapping[str, Any]) -> "TensorNameMap":
    """From module paths, as transformers names them, to GGUF's.

    Raises:
        EngineError: ZX002, an unknown architecture, or no usable number of layers.
    """
    import gguf

    wanted, layers = architecture(config).name, counted(config, "num_hidden_layers")
    if layers > MAX_LAYERS:
        raise EngineError(f"config.json of the base states {layers} layers", code="ZX002")
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == wanted)
    return gguf.get_tensor_name_map(number, layers)


def paired_rows(rows: "npt.NDArray[np.float32]", heads: int) -> "npt.NDArray[np.float32]":
    """Rows of a query or key projection in the order of neighbouring pairs.

    Args:
        rows: `[heads * head, columns]`, or `[heads * head]` for a bias.
        heads: how many heads the rows belong to.

    Returns:
        The same rows, head by head: 0, head/2, 1, head/2 + 1, …

    Raises:
        EngineError: ZX002, they do not divide into pairs of that many heads.
    """
    if rows.shape[0] % (2 * heads):
        raise EngineError(f"{rows.shape[0]} rows are not {heads} heads of pairs", code="ZX002")
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def heads_of(path: str, config: Mapping[str, Any]) -> int | None:
    """How many heads a module's rows belong to; None for anything but a query or key projection.

    Raises:
        EngineError: ZX002, the config does not say.
    """
    match path.rpartition(".")[2]:
        case "q_proj":
            return counted(config, "num_attention_heads")
        case "k_proj":
            key = "num_key_value_heads" if config.get("num_key_value_heads") else "num_attention_heads"
            return counted(config, key)
        case _:
            return None
