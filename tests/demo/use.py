"""Loads the published adapter at its tag and answers one question on the base model's own KV cache.

Usage: python tests/demo/use.py ORG/NAME REVISION DATA.jsonl

The base model reads the passage once. A plain LoRA must read it again, because its keys and values
differ; the activated one continues from the base's cache and runs only its own few tokens.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from zoo.models import DEFAULT, resolve


def main() -> None:
    """Prints the question, the answer, and the two times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repo")
    parser.add_argument("revision")
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()

    folder = resolve(DEFAULT).folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, arguments.repo, revision=arguments.revision).eval()
    invocation = torch.tensor([model.active_peft_config.alora_invocation_tokens])

    samples = [json.loads(line) for line in arguments.data.read_text(encoding="utf-8").splitlines()]
    sample = max(samples[:40], key=lambda s: len(s["messages"][-1]["content"]))
    text = tokenizer.apply_chat_template(sample["messages"], tokenize=False)
    prefix = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    prompt = torch.cat([prefix, invocation], dim=1)

    with torch.no_grad():
        with model.disable_adapter():
            cache = DynamicCache(config=base.config)
            base(input_ids=prefix, past_key_values=cache, logits_to_keep=1)

        reused_seconds, reused = timed(model, prompt, copy.deepcopy(cache))
        fresh_seconds, fresh = timed(model, prompt, None)

    print(f"question   {sample['messages'][-1]['content'].strip().splitlines()[-1]}")
    print(f"expected   {sample['answer']}")
    print(
        f"answer     {tokenizer.decode(reused)!r} on the base's cache, {tokenizer.decode(fresh)!r} without it"
    )
    print(f"first token after {reused_seconds * 1000:.0f} ms on the cache of {prefix.shape[1]} tokens,")
    print(f"            after {fresh_seconds * 1000:.0f} ms when the prompt is read again: ", end="")
    print(f"{fresh_seconds / reused_seconds:.1f} times faster")


def timed(model: PeftModel, prompt: torch.Tensor, cache: DynamicCache | None) -> tuple[float, int]:
    """Seconds until the first answer token, the best of three, and that token's id.

    Args:
        model: base and adapter.
        prompt: int64 `[1, tokens]`, the invocation at its end.
        cache: the base's KV of all tokens before the invocation, or None.
    """
    best, output = float("inf"), prompt
    for _ in range(3):
        mine = copy.deepcopy(cache)
        begin = time.perf_counter()
        output = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            past_key_values=mine,
            max_new_tokens=1,
            do_sample=False,
        )
        best = min(best, time.perf_counter() - begin)
    return best, int(output[0, -1])


if __name__ == "__main__":
    main()
