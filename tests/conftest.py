"""Fixtures shared by every test folder: tiny real models, made here and never downloaded."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from zoo.models import DEFAULT, BaseModel, resolve

# In CI the same examples every time: what a random one finds there helps nobody at that moment.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

INVOCATION_TEXT = "<|im_start|>check\n"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_base(folder: Path, *, seed: int = 0, hidden: int = 32) -> Path:
    """A two-layer Llama with a byte-level BPE tokenizer and a ChatML template, saved as a model folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = (
        "user assistant system check the passage answers question yes no relevant context "
        "<req>: requirements> "
    )
    tokenizer.train_from_iterator([words * 20], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": "<|im_start|>",
                "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>",
                "clean_up_tokenization_spaces": False,
            }
        )
    )
    (folder / "chat_template.jinja").write_text(CHATML)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    document = json.loads((folder / "config.json").read_text())
    document["_name_or_path"] = "tests/tiny-llama"
    (folder / "config.json").write_text(json.dumps(document))
    return folder


def build_adapter(base: BaseModel, folder: Path, *, strength: float = 0.5, **settings: Any) -> Path:
    """A LoRA saved by PEFT on `base` with random, clearly non-zero factors; `settings` go to LoraConfig."""
    import torch
    from peft import LoraConfig, get_peft_model

    from zoo.models import load_model

    wanted: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "k_proj", "v_proj"],
    }
    wanted.update(settings)
    model = get_peft_model(load_model(base), LoraConfig(**wanted))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * strength)
    model.peft_config["default"].base_model_name_or_path = base.id
    model.save_pretrained(str(folder), save_embedding_layers=False)  # else PEFT asks the Hub about the base
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's stub card
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A tiny Llama with tokenizer and chat template."""
    return resolve(str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture
def make_adapter(tiny_base: BaseModel, tmp_path: Path) -> Callable[..., Path]:
    """Makes adapter folders on the tiny base: `make_adapter("name", r=8, use_rslora=True)`."""

    def make(name: str = "adapter", **settings: Any) -> Path:
        return build_adapter(tiny_base, tmp_path / name, **settings)

    return make


@pytest.fixture(scope="session")
def embedded_base() -> BaseModel:
    """The embedded base with real weights; converted on first use (15 s), cached afterwards."""
    return resolve(DEFAULT)
