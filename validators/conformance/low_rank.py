"""The low-rank updates of an adapter, read straight from its files."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoo.adapter import AdapterRepo
from zoo.errors import RefusedError, UndecidedError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.specs.adapter_config import AdapterConfig

_PREFIX = "base_model.model."
_KEY = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<part>A\.weight|B\.weight|B\.bias)")
_FACTOR = re.compile(r"\.lora_\w+(\.|$)")  # any part of a LoRA, also of the variants that are not aLoRA
_LITERAL = re.compile(r"\^?[\w.]+\$?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """One module's update: `delta(x) = scale * (B (A x) + bias)`.

    Attributes:
        a: float32 or float64 `[rank, in_features]`.
        b: like a, `[out_features, rank]`.
        bias: like a, `[out_features]`, or None.
        scale: alpha / rank, or alpha / sqrt(rank) under rsLoRA.
    """

    a: "Tensor"
    b: "Tensor"
    bias: "Tensor | None"
    scale: float

    @property
    def features(self) -> tuple[int, int]:
        """How many features come in, and how many go out."""
        return self.a.shape[1], self.b.shape[0]

    def to(self, device: "torch.device", dtype: "torch.dtype") -> "LowRank":
        """The same update with its factors on `device` in `dtype`, copied only where that changes them."""
        return replace(
            self,
            a=self.a.to(device, dtype),
            b=self.b.to(device, dtype),
            bias=None if self.bias is None else self.bias.to(device, dtype),
        )

    def delta(self, x: "Tensor") -> "Tensor":
        """The update for inputs `[..., in_features]` on the factors' device, computed in their dtype."""
        from torch.nn.functional import linear

        return linear(linear(x.to(self.a.dtype), self.a), self.b, self.bias) * self.scale


def read_updates(repo: AdapterRepo, *, device: str = "cpu") -> dict[str, LowRank]:
    """The updates of a LoRA-format adapter by module path, as the base model names its modules.

    Only the factors are read. What the file holds besides a LoRA's parts (biases, saved modules) is no part
    of the definition; PEFT applies it, and the comparison with the base model then shows it. A part of a LoRA
    that the definition does not know is refused: leaving it out would compute something else.

    Args:
        repo: an adapter in PEFT's file format.
        device: where the factors go.

    Raises:
        RefusedError: ZR001, a module has one factor without the other, factors that do not fit together, or
            parts of another kind of LoRA; the config adapts expert parameters or repeats layers.
        UndecidedError: the config scales by a regular expression, which is not run here.

    Source: peft 0.21.2, tuners/lora/layer.py, `update_layer` (scale) and utils/save_and_load.py (keys).
    """
    from safetensors import safe_open

    _refuse_other_models(repo.config)
    parts: dict[str, dict[str, Tensor]] = {}
    repo.tensors  # noqa: B018 - bounds are checked before the library parses the file
    with safe_open(repo.weights_path, framework="pt", device=device) as weights:
        for key in weights.keys():  # noqa: SIM118 - not a mapping
            if found := _KEY.fullmatch(key):
                parts.setdefault(found["path"], {})[found["part"]] = weights.get_tensor(key).float()
            elif _FACTOR.search(key):
                raise RefusedError(
                    f"{key} is no part of an activated LoRA, whose update is scale * B A",
                    code="ZR001",
                    hint="zoo convert folds other kinds of LoRA, or says why it cannot",
                )
    if not parts:
        raise RefusedError(
            f"{repo.weights_path.name} holds no LoRA factors under PEFT's keys ({_PREFIX}….lora_A.weight)",
            code="ZR001",
            hint="zoo convert writes them under PEFT's keys",
        )
    return {path: _update(path, found, repo.config) for path, found in sorted(parts.items())}


def _refuse_other_models(config: "AdapterConfig") -> None:
    if config.target_parameters:
        raise RefusedError(
            f"target_parameters names {config.target_parameters[0][:80]}: expert parameters are 3-D, and an "
            "activated LoRA adapts linear layers only",
            code="ZR001",
            hint="target the attention's linear layers",
        )
    if config.layer_replication:
        raise RefusedError(
            "layer_replication makes a model with other layers than the base's, which cannot share its KV",
            code="ZR001",
            hint="train the adapter without layer_replication",
        )


def _update(path: str, parts: "Mapping[str, Tensor]", config: "AdapterConfig") -> LowRank:
    a, b, bias = parts.get("A.weight"), parts.get("B.weight"), parts.get("B.bias")
    if a is None or b is None:
        raise RefusedError(f"{path} has only one of its two factors", code="ZR001")
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or 0 in a.shape:
        raise RefusedError(
            f"{path} has factors of shapes {list(a.shape)} and {list(b.shape)}, which do not multiply",
            code="ZR001",
        )
    if bias is not None and bias.shape != b.shape[:1]:
        raise RefusedError(f"{path} adds {list(bias.shape)} biases to {b.shape[0]} features", code="ZR001")
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
