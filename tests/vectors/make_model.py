"""Makes the vectors' tiny Llama and its three adapters.

    python -m tests.vectors.make_model OUT

The weights are drawn wide, so that a token adapted too early or too late is seen in every log-probability
after it. Everything is seeded: the same torch and tokenizers give the same files.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOCABULARY = 320
HIDDEN = 32
INTERMEDIATE = 64
LAYERS = 2
HEADS, KV_HEADS = 4, 2
SPREAD = 0.22  # standard deviation of the base's weights
QUIET = 0.25  # what the embeddings of the ids are scaled by that shall never be the likeliest
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
READABLE = (3, 97)  # ids of the printable ASCII characters but the space: first, and one behind the last
MERGED = 259  # the first id of more than one byte
WORDS = (
    "check check yes no user assistant system the passage answers question relevant context req "
    "answerability "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterPlan:
    """What an adapter is made of; the invocation is told as text or as ids."""

    name: str
    rank: int
    targets: tuple[str, ...]
    invocation: tuple[int, ...]
    seed: int
    strength: float


ATTENTION = ("q_proj", "k_proj", "v_proj")
EVERYWHERE = (*ATTENTION, "o_proj", "gate_proj", "up_proj", "down_proj")
SHAPES = {
    "q_proj": ("self_attn", HIDDEN, HIDDEN),
    "k_proj": ("self_attn", HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "v_proj": ("self_attn", HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "o_proj": ("self_attn", HIDDEN, HIDDEN),
    "gate_proj": ("mlp", INTERMEDIATE, HIDDEN),
    "up_proj": ("mlp", INTERMEDIATE, HIDDEN),
    "down_proj": ("mlp", HIDDEN, INTERMEDIATE),
}


def make_model(folder: Path, *, seed: int = 20261122) -> Path:
    """Writes the base as a model folder: weights, config, tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    make_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=512,
        initializer_range=SPREAD,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight[[*unlikely_ids()]] *= QUIET
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    (folder / "generation_config.json").unlink(missing_ok=True)
    document = json.loads((folder / "config.json").read_text())
    document["_name_or_path"] = "zoo/vectors-tiny-llama"
    document["rope_theta"] = (
        10000.0  # transformers 5 writes it one level down, where other readers do not look
    )
    _write_json(folder / "config.json", document)
    return folder


def unlikely_ids() -> Iterator[int]:
    """Special tokens, and bytes that are no text alone: some servers tell nothing after decoding one."""
    yield from range(len(SPECIAL))
    yield from range(READABLE[1], MERGED)


def make_tokenizer(folder: Path) -> None:
    """A byte-level BPE tokenizer with ChatML's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([WORDS * 20, *["check\n"] * 60], trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise RuntimeError(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}")
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", settings)


def make_adapter(folder: Path, plan: AdapterPlan) -> Path:
    """Writes an adapter folder in PEFT's format, with as few config keys as PEFT needs."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(plan.seed)
    tensors: dict[str, Any] = {}
    for layer in range(LAYERS):
        for target in plan.targets:
            block, out_features, in_features = SHAPES[target]
            path = f"base_model.model.model.layers.{layer}.{block}.{target}"
            a = torch.randn(plan.rank, in_features, generator=generator) / in_features**0.5
            b = torch.randn(out_features, plan.rank, generator=generator) * plan.strength
            tensors[f"{path}.lora_A.weight"] = a
            tensors[f"{path}.lora_B.weight"] = b
    weights = folder / "adapter_model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.chmod(0o644)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "zoo/vectors-tiny-llama",
        "r": plan.rank,
        "lora_alpha": plan.rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(plan.targets),
        "alora_invocation_tokens": list(plan.invocation),
        "inference_mode": True,
    }
    _write_json(folder / "adapter_config.json", config)
    return folder


def plans(encode: Any) -> Sequence[AdapterPlan]:
    """The three adapters: three tokens, one token, and a sequence that overlaps itself."""
    text = tuple(encode("<|im_start|>check\n"))
    x, y = encode("yes")[0], encode(":")[0]
    one = encode("~")
    if len(text) != 3 or len(one) != 1:
        raise RuntimeError(f"the tokenizer splits the invocations as {text} and {one}")
    return (
        AdapterPlan(name="a", rank=4, targets=ATTENTION, invocation=text, seed=1, strength=1.0),
        AdapterPlan(name="b", rank=2, targets=EVERYWHERE, invocation=tuple(one), seed=2, strength=0.5),
        AdapterPlan(name="c", rank=4, targets=ATTENTION, invocation=(x, x, y, x, x), seed=5, strength=1.2),
    )


def make_all(out: Path) -> None:
    """Writes `model`, `adapter-a`, `adapter-b` and `adapter-c` below `out`."""
    from tokenizers import Tokenizer

    folder = make_model(out / "model")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for plan in plans(lambda text: tokenizer.encode(text, add_special_tokens=False).ids):
        make_adapter(out / f"adapter-{plan.name}", plan)


def _write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make_all(Path(sys.argv[1]))
