"""Engines that adapt the right tokens by the wrong amount, or with the wrong weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.validators.conformance.mutations.engine_starts import mutant
from tests.validators.conformance.mutations.mutant import CONSTRUCTED
from tests.validators.conformance.mutations.seams import Seam, layer_index, leaf, loading, located, update

Forward = Callable[..., Tensor]
ALPHA = {"lora_alpha": 8}  # twice the rank: a scale of 1 would hide what is done to it


def changed(change: Callable[[Any, Tensor], Tensor]) -> Seam:
    """Replaces what the adapter adds: `change(module, added)`, both of the result's shape."""

    def forward(right: Forward, module: Any, *, result: Tensor, **rest: Any) -> Tensor:
        before = result.clone()
        added = right(module, result=result, **rest) - before
        return before + change(module, added)

    return located(forward)


def scaled(factor: Callable[[Any, Tensor], float]) -> Seam:
    return changed(lambda module, added: added * factor(module, added))


def scale_of(module: Any) -> float:
    return float(module.scaling["default"])


def without_pattern(module: Any, _: Tensor) -> float:
    """alpha / rank from the config's two numbers alone, as the converter to GGUF takes it."""
    config = {"alpha": 4.0, "rank": 4}
    return config["alpha"] / config["rank"] / scale_of(module)


def in_dtype(dtype: torch.dtype) -> Seam:
    """Computes the update in another precision."""

    def forward(right: Forward, module: Any, *, x: Tensor, result: Tensor, **rest: Any) -> Tensor:
        a, b = (part[rest["active_adapter"]].weight for part in (module.lora_A, module.lora_B))
        added = right(module, x=x, result=torch.zeros_like(result), **rest)
        rounded = ((x.to(dtype) @ a.to(dtype).T) @ b.to(dtype).T).to(result.dtype) * scale_of(module)
        return result + torch.where(added != 0, rounded, 0)

    return update(forward)


def on(condition: Callable[[Any], bool]) -> Seam:
    """Leaves the update out of the modules that a condition names."""
    return changed(lambda module, added: added * (not condition(module)))


def everywhere_in_layer(index: int) -> Seam:
    """One layer does not know of the activation."""

    def forward(right: Forward, module: Any, *, x: Tensor, **rest: Any) -> Tensor:
        if layer_index(module) == index:
            rest["alora_offsets"] = [x.shape[1]] * x.shape[0]
        return right(module, x=x, **rest)

    return located(forward)


def loaded(change: Callable[[dict[str, Any]], None]) -> Seam:
    """Changes the adapter's weights as they are loaded; the modules are given by path."""

    def alter(model: Any) -> None:
        from peft.tuners.lora.layer import LoraLayer

        with torch.no_grad():
            change({path: one for path, one in model.named_modules() if isinstance(one, LoraLayer)})

    return loading(alter)


def factor(module: Any, part: str) -> Tensor:
    found: Tensor = getattr(module, f"lora_{part}")["default"].weight
    return found


def permuted(modules: dict[str, Any]) -> None:
    """Rows of B in the order of GGUF's rotary halves, 8 features a head, which the model is not in."""
    for path, module in modules.items():
        if path.endswith(("q_proj", "k_proj")):
            b = factor(module, "B")
            b.copy_(b.view(-1, 2, 4, b.shape[1]).transpose(1, 2).reshape(b.shape))


def heads_turned(modules: dict[str, Any]) -> None:
    """The update of one KV head goes to the other."""
    for path, module in modules.items():
        if path.endswith("k_proj"):
            b = factor(module, "B")
            b.copy_(b.roll(b.shape[0] // 2, 0))


def layers_moved(modules: dict[str, Any]) -> None:
    """Each layer has the factors of the next one."""
    for part in "AB":
        for name in ("q_proj", "k_proj", "v_proj"):
            own = [factor(one, part) for path, one in modules.items() if path.endswith(name)]
            kept = [one.clone() for one in own]
            for one, other in zip(own, [*kept[1:], kept[0]], strict=True):
                one.copy_(other)


def values_for_keys(modules: dict[str, Any]) -> None:
    """k_proj runs with the factors of v_proj."""
    for path, module in modules.items():
        if path.endswith("k_proj"):
            for part in "AB":
                factor(module, part).copy_(factor(modules[path.replace("k_proj", "v_proj")], part))


def merged(modules: dict[str, Any]) -> None:
    """The update is added into the base's weights as well."""
    for module in modules.values():
        module.base_layer.weight += 0.01 * factor(module, "B") @ factor(module, "A")


def merged_and_taken_back(modules: dict[str, Any]) -> None:
    """Merged for one request and unmerged: the base's weights keep a rounding error."""
    for module in modules.values():
        delta = 1000 * factor(module, "B") @ factor(module, "A")
        module.base_layer.weight += delta
        module.base_layer.weight -= delta


def dropping(model: Any) -> None:
    for name, module in model.named_modules():
        if ".lora_dropout" in name:
            module.train()


NUMBERS = (
    mutant("scale-omitted-in-batches", "leaves the scale out where there are several rows",
           "alora 0.3.0, layer.py:618", "ZP004",
           scaled(lambda module, added: 1 / scale_of(module) if added.shape[0] > 1 else 1), release=ALPHA),
    mutant("scale-twice", "applies alpha / rank twice", CONSTRUCTED, "ZR001",
           scaled(lambda module, _: scale_of(module)), release=ALPHA),
    mutant("alpha-ignored", "takes alpha for the rank", CONSTRUCTED, "ZR001",
           scaled(lambda module, _: 1 / scale_of(module)), release=ALPHA),
    mutant("rslora-ignored", "scales by alpha / rank under rsLoRA",
           "convert_lora_to_gguf.py reads lora_alpha only", "ZR001",
           scaled(lambda *_: 1 / math.sqrt(4)), release={"use_rslora": True}),
    mutant("alpha-pattern-ignored", "ignores alpha_pattern", "convert_lora_to_gguf.py reads lora_alpha only",
           "ZR001", scaled(without_pattern), release={"alpha_pattern": {"q_proj": 12}}),
    mutant("rank-pattern-scale", "divides alpha by r where rank_pattern says another rank",
           "convert_lora_to_gguf.py reads lora_alpha only", "ZR001",
           scaled(lambda module, _: 1 / scale_of(module)), release={"rank_pattern": {"q_proj": 2}}),
    mutant("subtracted", "subtracts the update", CONSTRUCTED, "ZR001", scaled(lambda *_: -1)),
    mutant("update-in-bfloat16", "computes the update in bfloat16 in a float32 run",
           "vllm, lora_dtype", "ZR001", in_dtype(torch.bfloat16)),
    mutant("update-in-float16", "computes the update in float16 in a float32 run",
           "vllm, lora_dtype", "ZR001", in_dtype(torch.float16)),
    mutant("one-layer-skipped", "leaves the last layer out", CONSTRUCTED, "ZR001",
           on(lambda module: layer_index(module) == 1)),
    mutant("keys-dropped", "leaves k_proj out", CONSTRUCTED, "ZR001",
           on(lambda module: leaf(module) == "k_proj")),
    mutant("values-and-keys-dropped", "adapts queries only, so that any cache can be shared", CONSTRUCTED,
           "ZR001", on(lambda module: leaf(module) != "q_proj")),
    mutant("one-layer-on-every-token", "one layer does not know of the activation", CONSTRUCTED,
           "ZR001 ZR002 ZK001", everywhere_in_layer(0)),
    mutant("last-layer-on-every-token", "the last layer does not know of the activation", CONSTRUCTED,
           "ZR002 ZK001", everywhere_in_layer(1)),
    mutant("q-k-rows-permuted", "has rows of q and k in GGUF's rotary order",
           "integrallis/models bug 1", "ZR001", loaded(permuted)),
    mutant("kv-heads-turned", "gives one KV head's update to the other", CONSTRUCTED, "ZR001",
           loaded(heads_turned)),
    mutant("layers-moved", "gives each layer the factors of the next", CONSTRUCTED, "ZR001",
           loaded(layers_moved)),
    mutant("values-factors-for-keys", "runs k_proj with v_proj's factors", CONSTRUCTED, "ZR001",
           loaded(values_for_keys)),
    mutant("merged-into-the-base", "adds the update into the base's weights as well",
           "TRL 1.16 GRPO, merge_adapter before each sync", "ZR001 ZR002 ZK001 ZK003", loaded(merged)),
    mutant("unmerged-with-a-rest", "merged once and unmerged: the base keeps a rounding error",
           "TRL 1.16 GRPO, merge_adapter before each sync", "ZR002 ZK001 ZK003",
           loaded(merged_and_taken_back)),
    mutant("dropout-at-inference", "leaves the adapter's dropout on", CONSTRUCTED,
           "ZR001",
           loading(dropping), release={"lora_dropout": 0.2}),
)  # fmt: skip
