"""PEFT's `adapter_config.json` for a LoRA, with the bounds that PEFT itself does not set.

Other people's file: unknown keys are kept and reported, not refused. Values that make PEFT 0.21.2 hang or
eat memory (a rank of ten million, a catastrophic regular expression, thousands of replicated layers) are
refused here, before any model code sees them.
Source: peft 0.21.2, tuners/lora/config.py; keys before 0.18 from the released configs since 0.5.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

MAX_RANK = 4096
MAX_MODULES = 4096
MAX_INVOCATION = 512
MAX_KEYS = 300  # PEFT 0.21.2 writes 45

Rank = Annotated[StrictInt, Field(ge=1, le=MAX_RANK)]
Name = Annotated[str, Field(max_length=512)]
TokenId = Annotated[StrictInt, Field(ge=0, lt=2**31)]
Finite = Annotated[float, Field(allow_inf_nan=False, gt=-1e6, lt=1e6)]


class AdapterConfig(BaseModel):
    """The keys of a LoRA config that decide what the adapter computes.

    `target_modules` as a string is a regular expression in PEFT (or the word `all-linear`); it is kept as
    the string, and never run against anything here.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: Name
    task_type: Name | None = None
    base_model_name_or_path: Name | None = None
    revision: Name | None = None
    peft_version: Name | None = None
    r: Rank = 8
    lora_alpha: Finite = 8
    lora_dropout: Annotated[float, Field(ge=0, le=1)] = 0.0
    use_rslora: StrictBool = False
    rank_pattern: dict[Name, Rank] = Field(default={}, max_length=MAX_MODULES)
    alpha_pattern: dict[Name, Finite] = Field(default={}, max_length=MAX_MODULES)
    target_modules: Annotated[list[Name], Field(max_length=MAX_MODULES)] | Name | None = None
    exclude_modules: Annotated[list[Name], Field(max_length=MAX_MODULES)] | Name | None = None
    fan_in_fan_out: StrictBool = False
    bias: Name = "none"
    lora_bias: StrictBool = False
    modules_to_save: list[Name] | None = None
    trainable_token_indices: Any = None
    target_parameters: list[Name] | None = None
    layer_replication: Any = None
    layers_to_transform: list[StrictInt] | StrictInt | None = None
    layers_pattern: list[Name] | Name | None = None
    init_lora_weights: StrictBool | Name = True
    use_dora: StrictBool = False
    use_qalora: StrictBool = False
    use_bdlora: Any = None
    auto_mapping: Any = None
    alora_invocation_tokens: Annotated[list[TokenId], Field(max_length=MAX_INVOCATION)] | None = None
    invocation_string: Annotated[str, Field(max_length=8192)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_no_loras(cls, written: Any) -> Any:
        """Other methods mean other things by these keys.

        A rank of 0 (OFT), no alpha (Super-Tuning), masks (AdaLoRA) or fractions (OSF) as ranks.
        """
        if isinstance(written, dict) and not written.get("peft_type") and written.get("swift_type"):
            written = {**written, "peft_type": written["swift_type"]}  # as ms-swift's to_peft_config does
        if not isinstance(written, dict) or str(written.get("peft_type")).upper() == "LORA":
            return written
        ranks = written.get("rank_pattern")
        others = not isinstance(ranks, dict) or not all(isinstance(rank, int) for rank in ranks.values())
        alpha = "lora_alpha" in written and written["lora_alpha"] is None
        odd = {"r": not written.get("r"), "lora_alpha": alpha, "rank_pattern": others}
        left_out = {key for key, is_odd in odd.items() if is_odd}
        return {key: value for key, value in written.items() if key not in left_out}

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, written: Any) -> Any:
        if isinstance(written, dict) and len(written) > MAX_KEYS:
            raise ValueError(f"more than {MAX_KEYS} keys")
        return written

    @property
    def is_activated(self) -> bool:
        """Whether this is an aLoRA: a non-empty list. The key alone is in every LoRA, as null."""
        return bool(self.alora_invocation_tokens)

    @property
    def unknown_keys(self) -> list[str]:
        """Keys that this model does not know, sorted."""
        return sorted(self.model_extra or {})
