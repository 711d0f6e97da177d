import pytest

from zoo.converters.keys import Key, Part, parse_key

PATH = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (f"base_model.model.{PATH}.lora_A.weight", Key(part=Part.A, path=PATH)),
        (f"base_model.model.{PATH}.lora_B.weight", Key(part=Part.B, path=PATH)),
        (f"base_model.model.{PATH}.lora_A.default.weight", Key(part=Part.A, path=PATH, adapter="default")),
        (f"{PATH}.lora_B.my-task.weight", Key(part=Part.B, path=PATH, adapter="my-task")),
        (f"base_model.model.{PATH}.lora_B.bias", Key(part=Part.BIAS_B, path=PATH)),
        (f"base_model.model.{PATH}.lora_magnitude_vector", Key(part=Part.MAGNITUDE, path=PATH)),
        (
            f"base_model.model.{PATH}.lora_magnitude_vector.default.weight",
            Key(part=Part.MAGNITUDE, path=PATH, adapter="default"),
        ),
        (
            "base_model.model.model.embed_tokens.lora_embedding_A",
            Key(part=Part.EMBEDDING, path="model.embed_tokens"),
        ),
        (f"base_model.model.{PATH}_lora_latent_mapping.weight", Key(part=Part.LATENT, path=PATH)),
        (f"base_model.model.{PATH}.default_lora_latent_mapping.weight", Key(part=Part.LATENT, path=PATH)),
        (f"base_model.model.{PATH}.lora_diag.default", Key(part=Part.DIAGONAL, path=PATH, adapter="default")),
        ("base_model.model.lm_head.weight", Key(part=Part.OTHER, path="lm_head.weight")),
        ("base_model.model.x.lora_A.a.b.weight", Key(part=Part.OTHER, path="x.lora_A.a.b.weight")),
        ("lora_A.weight", Key(part=Part.OTHER, path="lora_A.weight")),
        ("", Key(part=Part.OTHER, path="")),
    ],
)
def test_every_spelling_is_understood(name: str, key: Key) -> None:
    assert parse_key(name) == key
