"""Makes the demo's input: an ordinary PEFT LoRA for context relevance on the embedded base.

Nothing of zoo's training is in it: whole prompts, the adapter on every token, loss on the answer, saved by
PEFT. `tests/demo/relevance-lora/` is its output with the default options on one GPU; on two cores it takes
about half an hour.

Run: python -m tests.demo.make_lora [--device cuda] [--out tests/demo/relevance-lora]
"""

import argparse
import math
import random
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.demo.relevance_data import INVOCATION, Sample, make

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HERE = Path(__file__).parent
Row = tuple[list[int], list[int]]


def encode(tokenizer: Any, samples: list[Sample]) -> list[Row]:
    """(prompt ids, answer ids) of each sample; the prompt ends with the invocation's tokens."""
    rows = []
    for sample in samples:
        text = tokenizer.apply_chat_template(sample["messages"], tokenize=False) + INVOCATION
        answer = [*tokenizer.encode(sample["answer"], add_special_tokens=False), tokenizer.eos_token_id]
        rows.append((tokenizer.encode(text, add_special_tokens=False), answer))
    return rows


def forward(model: Any, rows: list[list[int]], keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids [rows, tokens] and the logits [rows, keep, vocabulary] of the last positions."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, width - len(row) :] = torch.tensor(row)
        mask[index, width - len(row) :] = 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ids, mask, positions = (tensor.to(model.device) for tensor in (ids, mask, positions))
    output = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep)
    return ids, output.logits.float()


@torch.no_grad()
def accuracy(model: Any, rows: list[Row]) -> float:
    """Share of rows whose answer's first token beats the other answer's."""
    first = sorted({answer[0] for _, answer in rows})
    right = 0
    for start in range(0, len(rows), 32):
        part = rows[start : start + 32]
        _, logits = forward(model, [prompt for prompt, _ in part], 1)
        chosen = logits[:, -1, first].argmax(-1).tolist()
        right += sum(first[pick] == answer[0] for pick, (_, answer) in zip(chosen, part, strict=True))
    return right / len(rows)


def train(model: Any, rows: list[Row], options: argparse.Namespace) -> None:
    """AdamW with warm-up and cosine over `options.steps` batches; every answer has two tokens."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=options.lr, weight_decay=0.0)
    shuffler, queue = random.Random(options.seed), list[int]()
    for step in range(1, options.steps + 1):
        if len(queue) < options.batch:
            queue += shuffler.sample(range(len(rows)), len(rows))
        batch = [rows[queue.pop()] for _ in range(options.batch)]
        decay = 0.5 * (1 + math.cos(math.pi * max(0, step - 10) / (options.steps - 10)))
        for group in optimiser.param_groups:
            group["lr"] = options.lr * min(1, step / 10) * decay
        ids, logits = forward(model, [prompt + answer for prompt, answer in batch], 3)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, -2:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)


def base_folder() -> Path:
    from zoo.models import DEFAULT, resolve

    return resolve(DEFAULT).folder


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo's LoRA.")
    parser.add_argument("--out", type=Path, default=HERE / "relevance-lora")
    parser.add_argument("--base", type=Path, help="model folder; the embedded base unless told")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    folder = options.base or base_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    training, test = (encode(tokenizer, samples) for samples in make())
    torch.manual_seed(options.seed)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(options.device)
    # a slice of the hidden states is not contiguous, which makes the output layer many times slower on a CPU
    base.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj"]
    )
    model = get_peft_model(base, config)
    model.peft_config["default"].base_model_name_or_path = HUB_ID
    train(model, training, options)
    model.eval()
    print(f"held-out accuracy {accuracy(model, test):.4f} on {len(test)} samples")
    model.save_pretrained(options.out)
    (options.out / "README.md").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
