"""Adapters that are broken: some in ways that files show, some only when they run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.conftest import build_tiny_base
from tests.validators.breakages import BREAKAGES
from tests.validators.changes import Breakage, Tensors, config, weights
from tests.validators.conformance.mutations.mutant import CONSTRUCTED, Mutant
from zoo.models import BaseModel, resolve


def other_weights(folder: Path, base: BaseModel) -> BaseModel:
    """A base of the same shape, tokenizer and template, trained differently; the lock is of the first one."""
    return resolve(str(build_tiny_base(folder.parent / "other-weights", seed=5)))


def times(factor: float, part: str = "lora_B") -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: one * factor if part in name else one for name, one in tensors.items()}


def factors_swapped(tensors: Tensors) -> Tensors:
    """Each factor goes by the name of the other, in their own shapes transposed."""
    return {
        name: tensors[
            name.replace("lora_A", "lora_X").replace("lora_B", "lora_A").replace("lora_X", "lora_B")
        ].T.contiguous()
        for name in tensors
    }


def layers_swapped(tensors: Tensors) -> Tensors:
    turned = {"layers.0.": "layers.1.", "layers.1.": "layers.0."}
    return {
        name: next(tensors[name.replace(one, other)] for one, other in turned.items() if one in name).clone()
        for name in tensors
    }


def orthogonal(tensors: Tensors) -> None:
    """B reads only ranks to which A writes nothing."""
    for name, one in tensors.items():
        half = one.shape[0 if "lora_A" in name else 1] // 2
        if "lora_A" in name:
            one[:half] = 0
        else:
            one[:, half:] = 0


def bias_trained(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.endswith("lora_B.weight")]:
        tensors[name.replace("lora_B.weight", "base_layer.bias")] = torch.full(tensors[name].shape[:1], 0.2)


def adapter(id: str, what: str, source: str, code: str, breakage: Breakage | str, **more: Any) -> Mutant:
    """A defect made here, or one of `breakages` by its name there."""
    known = BREAKAGES[breakage] if isinstance(breakage, str) else breakage
    return Mutant(
        id=id, family="adapters", what=what, source=source, codes=frozenset({code}), breakage=known, **more
    )


def broken(mutate: Any, code: str, *, locks: bool = True) -> Breakage:
    return Breakage(mutate=mutate, code=code, locks=locks)


FILES = (
    adapter("bias-trained", "trained biases shift every token", "peft 0.21.2 accepts bias=all (run)", "ZC003",
            "bias"),
    adapter("head-saved", "a saved head changes logits before the invocation", "peft 0.21.2 (run)", "ZC004",
            "modules to save"),
    adapter("embedding-saved", "a saved embedding changes every key and value",
            "peft 0.21.2 (run); fms-hf-tuning puts embeddings there", "ZC004",
            broken(config(modules_to_save=["embed_tokens"]), "ZC004")),
    adapter("tokens-trained", "trained token embeddings change the prefix", "peft 0.21.2 (run)", "ZC004",
            "trained tokens"),
    adapter("pissa", "the initialisation changes the base's weights", "peft 0.21.2 (run)", "ZC006", "PiSSA"),
    adapter("dora", "DoRA has no activated form", "peft 0.21.2 raises; bitsandbytes layers ignore it",
            "ZC005",
            "DoRA"),
    adapter("layers-replicated", "other layers than the base's cannot share its KV", CONSTRUCTED, "ZC006",
            broken(config(layer_replication=[[0, 2], [1, 2]]), "ZC006")),
    adapter("no-task-type", "PEFT loads it as a model that never activates it", "peft 0.21.2 (run)", "ZC002",
            "no task type"),
    adapter("classification-task", "PEFT loads it as a model that never activates it", "peft 0.21.2 (run)",
            "ZC002", broken(config(task_type="SEQ_CLS"), "ZC002")),
    adapter("tensor-missing", "a factor is missing and stays at its initial value", "peft 0.21.2 only warns",
            "ZW002", "missing tensor"),
    adapter("tensors-extra", "weights lie in modules that are no targets", "peft 0.21.2 drops them", "ZW004",
            "tensors without target"),
    adapter("rank-pattern-matches-nothing", "rank_pattern names no module, so shapes and rank differ",
            CONSTRUCTED, "ZW003",
            broken(config(r=8, lora_alpha=8, rank_pattern={"nothing_proj": 4}), "ZW003")),
    adapter("not-a-number", "one tensor holds a NaN", CONSTRUCTED, "ZW001", "NaN"),
    adapter("overflowed", "one tensor overflowed when it was converted", CONSTRUCTED,
            "ZW001",
            "infinite bfloat16"),
    adapter("untrained", "every B is zero", "training on truncated prompts: zero gradient (peft 0.21.2)",
            "ZW005", "untrained"),
    adapter("alpha-after-fold", "alpha was changed in the config after the weights were folded",
            CONSTRUCTED, "ZL002", broken(config(lora_alpha=32), "ZL002", locks=False)),
    adapter("layers-swapped", "layers have each other's factors", CONSTRUCTED, "ZL002",
            broken(weights(layers_swapped), "ZL002", locks=False)),
    adapter("factors-swapped", "A and B go by each other's names", CONSTRUCTED, "ZW007",
            broken(weights(factors_swapped), "ZW007")),
    adapter("other-weights", "the base has other weights of the same shape", "integrallis/models pins hashes",
            "ZL004", broken(other_weights, "ZL004", locks=False)),
    adapter("ids-of-another-tokenizer", "the ids are another text's", "transformers 45812: ids drift",
            "ZI003",
            "wrong ids"),
    adapter("first-token-dropped", "the ids lack the text's first token",
            "convert_lora_to_gguf.py takes [1:]; alora 0.3.0's boundary", "ZI003",
            broken(lambda folder, base: _drop_first(folder, base), "ZI003")),
    adapter("ids-merge", "the ids never occur in a rendered prompt", "mellea 1678: <requirements>: X",
            "ZI004",
            "published requirement"),
    adapter("padding-in-the-invocation", "the padding id is the invocation's last",
            "peft 0.21.2, right padding",
            "ZI006", "ends in padding"),
    adapter("template-changed", "the base's template is not the one it was made for", "mellea 947", "ZL003",
            "another template"),
    adapter("key-stripped", "the config key was stripped for an old PEFT", "public scripts, found by search",
            "ZI001", "plain LoRA without ids"),
)  # fmt: skip

RUNS = (
    adapter("effect-below-noise", "B is so small that nothing changes", CONSTRUCTED, "ZR003",
            broken(weights(times(1e-7)), "ZR003")),
    adapter("factors-miss-each-other", "A writes only ranks that B does not read", CONSTRUCTED, "ZR003",
            broken(weights(orthogonal), "ZR003")),
    adapter("overflows-when-run", "finite factors whose product is not", CONSTRUCTED,
            "ZR001",
            broken(weights(times(1e30)), "ZR001")),
)  # fmt: skip


def _drop_first(folder: Path, base: BaseModel) -> None:
    import json

    ids = json.loads((folder / "adapter_config.json").read_text())["alora_invocation_tokens"]
    config(alora_invocation_tokens=ids[1:])(folder, base)


ADAPTERS = (*FILES, *RUNS)
