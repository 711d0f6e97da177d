"""What a tensor's name in an adapter file means, in every spelling that has been written.

base_model.model.<path>.lora_A.weight             PEFT
base_model.model.<path>.lora_A.<adapter>.weight   PEFT's state dict saved as it stands
<path>.lora_A.<adapter>.weight                    ms-swift native, and injected models: no prefix
"""

import enum
from dataclasses import dataclass

PREFIX = "base_model.model."


class Part(enum.Enum):
    """The role of a tensor in an adapter."""

    A = "lora_A"
    B = "lora_B"
    BIAS_A = "bias of lora_A"
    BIAS_B = "bias of lora_B"
    EMBEDDING = "LoRA on an embedding"
    MAGNITUDE = "DoRA magnitude"
    DIAGONAL = "KaSA diagonal"
    SINGULAR = "AdaLoRA singular values"
    LATENT = "LoRA-XS latent mapping"
    TOKENS = "trained token rows"
    TRAINING = "what acts in training only"
    OTHER = "a tensor outside every LoRA factor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A parsed tensor name.

    Attributes:
        part: the tensor's role.
        path: path of the module it belongs to, without PEFT's prefix; the whole name for `OTHER`.
        adapter: the adapter's name where the spelling carries it, else empty.
    """

    part: Part
    path: str
    adapter: str = ""


_FACTORS = {
    "lora_A": Part.A,
    "lora_B": Part.B,
    "lora_E": Part.SINGULAR,
    "lora_diag": Part.DIAGONAL,
    "lora_magnitude_vector": Part.MAGNITUDE,
    "lora_embedding_A": Part.EMBEDDING,
    "lora_embedding_B": Part.EMBEDDING,
    "trainable_tokens_delta": Part.TOKENS,
    "lora_velora_embed": Part.TRAINING,  # peft 0.21.2, tuners/lora/variants.py: both variants' `forward`
    "lora_monteclora_sampler": Part.TRAINING,
}
_BIASES = {Part.A: Part.BIAS_A, Part.B: Part.BIAS_B}
_LATENT = "_lora_latent_mapping.weight"


def parse_key(name: str) -> Key:
    """Reads a tensor's name; never fails, because a name that means nothing to us is `OTHER`."""
    path = name.removeprefix(PREFIX)
    if path.endswith(_LATENT):
        # one release wrote `q_proj_lora_latent_mapping`, others `q_proj.default_lora_latent_mapping`
        return Key(part=Part.LATENT, path=path.removesuffix(_LATENT).removesuffix(".default"))
    pieces = path.split(".")
    for index in range(len(pieces) - 1, 0, -1):
        part = _FACTORS.get(pieces[index])
        if part is None:
            continue
        module, rest = ".".join(pieces[:index]), pieces[index + 1 :]
        ending = rest.pop() if rest and rest[-1] in ("weight", "bias") else ""
        if ending == "bias":
            part = _BIASES.get(part, Part.OTHER)
        if part is not Part.OTHER and len(rest) <= 1:
            return Key(part=part, path=module, adapter=rest[0] if rest else "")
    return Key(part=Part.OTHER, path=path)
