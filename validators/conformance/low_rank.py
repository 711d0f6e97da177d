"""The low-rank updates of an adapter, read straight from its files."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.adapter import AdapterRepo
from zoo.errors import RefusedError, UndecidedError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.specs.adapter_config import AdapterConfig

_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<part>A\.weight|B\.weight|B\.bias)")
_LITERAL = re.compile(r"\^?[\w.]+\$?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """One module's update: `delta(x) = scale * (B (A x) + bias)`.

    Attributes:
        a: float32 `[rank, in_features]`.
        b: float32 `[out_features, rank]`.
        bias: float32 `[out_features]`, or None.
        scale: alpha / rank, or alpha / sqrt(rank) under rsLoRA.
    """

    a: "Tensor"
    b: "Tensor"
    bias: "Tensor | None"
    scale: float

    def delta(self, x: "Tensor") -> "Tensor":
        """The update for inputs `[..., in_features]`, in float32 or, for a float64 model, in float64."""
        import torch

        dtype = torch.promote_types(torch.float32, x.dtype)
        a, b = self.a.to(x.device, dtype), self.b.to(x.device, dtype)
        result = (x.to(dtype) @ a.T) @ b.T
        if self.bias is not None:
            result = result + self.bias.to(x.device, dtype)
        return result * self.scale


def read_updates(repo: AdapterRepo, *, device: str = "cpu") -> dict[str, LowRank]:
    """The updates of a LoRA-format adapter by module path, as the base model names its modules.

    Only the factors are read. Anything else in the file (biases, saved modules, embeddings) is no part of
    the definition; PEFT applies it, and the comparison with the base model then shows it.

    Args:
        repo: an adapter in PEFT's file format.
        device: where the factors go.

    Raises:
        RefusedError: ZR001, a module has one factor without the other, or factors that do not fit together.
        UndecidedError: the config scales by a regular expression, which is not run here.

    Source: peft 0.21.2, tuners/lora/layer.py, `update_layer` (scale) and utils/save_and_load.py (keys).
    """
    from safetensors import safe_open

    parts: dict[str, dict[str, Tensor]] = {}
    repo.tensors  # noqa: B018 - bounds are checked before the library parses the file
    with safe_open(repo.weights_path, framework="pt", device=device) as weights:
        for key in weights.keys():  # noqa: SIM118 - not a mapping
            if found := _KEY.fullmatch(key):
                parts.setdefault(found["path"], {})[found["part"]] = weights.get_tensor(key).float()
    if not parts:
        raise RefusedError(
            f"{repo.weights_path.name} holds no LoRA factors under PEFT's keys ({_PREFIX}….lora_A.weight)",
            code="ZR001",
            hint="zoo convert writes them under PEFT's keys",
        )
    return {path: _update(path, found, repo.config) for path, found in sorted(parts.items())}


def _update(path: str, parts: "Mapping[str, Tensor]", config: "AdapterConfig") -> LowRank:
    a, b, bias = parts.get("A.weight"), parts.get("B.weight"), parts.get("B.bias")
    if a is None or b is None:
        raise RefusedError(f"{path} has only one of its two factors", code="ZR001")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise RefusedError(
            f"{path} has factors of shapes {list(a.shape)} and {list(b.shape)}, which do not multiply",
            code="ZR001",
        )
    rank = a.shape[0]
    alpha = _by_pattern(config.alpha_pattern, path, config.lora_alpha)
    return LowRank(a=a, b=b, bias=bias, scale=alpha / (math.sqrt(rank) if config.use_rslora else rank))


def _by_pattern(pattern: Mapping[str, float], path: str, default: float) -> float:
    for key, value in pattern.items():
        if not _LITERAL.fullmatch(key):
            raise UndecidedError(
                f"alpha_pattern has the regular expression {key[:80]!r}, which the reference does not run",
                hint="zoo convert folds alpha_pattern into the weights",
            )
        name = key.removesuffix("$")
        if path == name.removeprefix("^") or (not name.startswith("^") and path.endswith(f".{name}")):
            return value
    return default
