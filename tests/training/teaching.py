"""Tiny bases that can be taught, LoRAs taught on them, and a base whose context an aLoRA cannot see."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests.conftest import build_adapter, build_tiny_base
from tests.training.conftest import task
from zoo.evaluation.boundary import WHOLE, begin_at
from zoo.models import BaseModel, load_model, resolve
from zoo.peft_model import attach
from zoo.prompts import Invocation, Prompter
from zoo.training.dataset import encode, read_dataset
from zoo.training.optimise import Recipe, Task, optimise
from zoo.training.prefix import PrefixStore, answer_loss

GROUPS = 150
EVERYWHERE = ["q_proj", "k_proj", "v_proj", "o_proj"]


def build_base(folder: Path, *, blind: bool = False) -> BaseModel:
    """A tiny Llama whose weights are large enough that it can be sure of an answer.

    Args:
        folder: to make.
        blind: its keys and values are zero in every layer: what stands before the invocation leaves no trace
            that an aLoRA could read, while a LoRA writes its own keys and values there.
    """
    path = build_tiny_base(folder) / "model.safetensors"
    weights = load_file(path)
    for name in weights:
        if blind and ("k_proj" in name or "v_proj" in name):
            weights[name].zero_()
        elif "embed_tokens" in name:
            weights[name] *= 50
        elif "proj" in name:
            weights[name] *= 8
    save_file(weights, path, metadata={"format": "pt"})
    return resolve(str(folder))


def write_data(path: Path, *, groups: int = GROUPS) -> Path:
    """Does the passage end with one word or another? 2 samples a group."""
    path.write_text("".join(json.dumps(line) + "\n" for line in task(groups)))
    return path


def teach_lora(base: BaseModel, invocation: Invocation, data: Path, folder: Path) -> Path:
    """A LoRA that was trained on whole prompts until it answers the data, saved with an invocation."""
    start = build_adapter(
        base,
        folder / "start",
        strength=0.0,
        r=8,
        lora_alpha=8,
        alora_invocation_tokens=list(invocation.ids),
        target_modules=EVERYWHERE,
    )
    samples = encode(read_dataset(data).samples, Prompter(base), invocation, name="data", max_tokens=500)
    model = attach(load_model(base), start, trainable=True).eval()
    store = PrefixStore(model, [begin_at(sample, WHOLE) for sample in samples])
    told = list(range(0, len(samples), 5))
    optimise(
        Task(
            parameters={name: p for name, p in model.named_parameters() if p.requires_grad},
            samples=len(samples),
            tokens=[len(sample.answer) for sample in samples],
            loss=lambda rows: answer_loss(store, rows),
            score=lambda: -float(answer_loss(store, told).detach()),
            identity={},
        ),
        Recipe(steps=60, batch=16, learning_rate=1e-2, warmup=5, check_every=10),
    )
    made = folder / "lora"
    model.save_pretrained(str(made), save_embedding_layers=False)
    return made
