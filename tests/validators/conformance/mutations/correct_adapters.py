"""Adapters in order, on which the suite must raise no alarm: of many bases, ranks, targets and dtypes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.validators.conformance.bench import adapter_settings, build_base
from tests.validators.conformance.mutations.run import Verdict, verdict
from tests.validators.releases import build_release
from zoo.models import BaseModel, Dtype

ALL = "all-linear"
MLP = ("o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class Correct:
    """One adapter in order.

    Attributes:
        family: of `bench.FAMILIES`.
        rank: of its factors; alpha is the rank unless `settings` say otherwise.
        targets: module names, or every linear layer that PEFT can adapt in this family.
        settings: more of `LoraConfig`.
        dtype: of the base's weights in the dynamic part.
    """

    family: str
    rank: int
    targets: tuple[str, ...] | str = ("q_proj", "k_proj", "v_proj")
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtype: Dtype = "float32"

    @property
    def id(self) -> str:
        """Unique, and says what it is."""
        targets = self.targets if isinstance(self.targets, str) else "+".join(one[0] for one in self.targets)
        more = [f"{key}={value}" for key, value in self.settings.items()]
        return ", ".join([self.family, f"r{self.rank}", targets, *more, self.dtype])


# The tiny Llama and Qwen2 are nearly constant, so that in bfloat16 every greedy token may be a tie; ZP002 and
# ZP005 rightly say Skipped there. bfloat16 is run on the bases that are not.
ADAPTERS: tuple[Correct, ...] = (
    Correct(family="llama", rank=1),
    Correct(family="llama", rank=64),
    Correct(family="llama", rank=16, targets=("q_proj", "v_proj")),
    Correct(family="llama", rank=8, targets=MLP, settings={"lora_alpha": 32}),
    Correct(family="llama", rank=8, targets=ALL),
    Correct(family="llama", rank=4, settings={"use_rslora": True}),
    Correct(family="llama", rank=4, settings={"lora_dropout": 0.1}),
    Correct(family="llama", rank=4, settings={"lora_bias": True}),
    Correct(family="llama", rank=8, settings={"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"k_proj": 3}}),
    Correct(family="llama", rank=4, targets=("k_proj",)),
    Correct(family="llama", rank=4, dtype="float16"),
    Correct(family="qwen2", rank=8, targets=ALL),
    Correct(family="qwen2", rank=32, dtype="float16"),
    Correct(family="qwen3", rank=8, targets=ALL),
    Correct(family="qwen3", rank=4, dtype="bfloat16"),
    Correct(family="granite", rank=32, targets=ALL, settings={"lora_alpha": 64}),
    Correct(family="granite", rank=32, dtype="bfloat16"),
    Correct(family="mistral", rank=16, targets=ALL),
    Correct(family="mistral", rank=2, targets=("q_proj", "v_proj")),
    Correct(family="mistral", rank=16, targets=ALL, dtype="bfloat16"),
    Correct(family="gemma2", rank=8, targets=ALL),
    Correct(family="gemma2", rank=8, dtype="bfloat16"),
    Correct(family="gemma3", rank=8, targets=ALL),
    Correct(family="mixtral", rank=8, targets=ALL),
    Correct(family="qwen2_moe", rank=8),
    Correct(family="qwen3_moe", rank=8, targets=ALL),
    Correct(family="granite_moe", rank=8, targets=ALL),
    Correct(family="phi3", rank=8, targets=ALL),
    Correct(family="gpt2", rank=8, targets=ALL),
    Correct(family="gpt2", rank=4, targets=("c_attn",), dtype="bfloat16"),
)


@dataclass(kw_only=True)
class Bases:
    """One tiny base a family, made when it is first asked for."""

    folder: Path
    seed: int = 0
    _made: dict[str, BaseModel] = field(default_factory=dict)

    def of(self, family: str) -> BaseModel:
        """The family's base."""
        if family not in self._made:
            self._made[family] = build_base(self.folder / family, family)
        return self._made[family]

    def verdict(self, correct: Correct) -> Verdict:
        """What the suite says of one of the adapters."""
        base = self.of(correct.family)
        folder = self.folder / f"adapter-{ADAPTERS.index(correct)}"
        settings = {**adapter_settings(correct.family), **correct.settings}
        if not isinstance(correct.targets, str):
            settings["target_modules"] = list(correct.targets)
        torch.manual_seed(self.seed)  # PEFT draws A
        build_release(base, folder, rank=correct.rank, **settings)
        return verdict(folder, base, dtype=correct.dtype)


def alarmed(found: Verdict) -> dict[str, object]:
    """What the suite holds against an adapter: errors, crashes, and checks that it left out."""
    return {**found.errors, **found.crashed, **found.skipped}
