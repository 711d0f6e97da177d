"""io-5: time to the first token of a 16-token suffix on a ready cache, against PEFT's aLoRA and plain LoRA.

    python -m tests.benchmarks.suffix_latency [--prefixes 1024 16384 65536] [--device cpu]

The model is a Llama in the shape of an 8B with random weights, in bfloat16; the adapter, of rank 32 on q,
k and v, is random as well. Everything runs in one process on the same weights. A time is that of a whole
call with its Python: from the token ids to the first new id on the host. With `--device cpu` a tiny model
rehearses the script, and nothing is recorded.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.conformance_gpu import BIG, finish
from tests.benchmarks.evidence import record
from zoo import peft_model
from zoo.adapter import WEIGHTS_NAME, AdapterRepo
from zoo.inference.adapted import Adapted
from zoo.inference.continuation import filled
from zoo.inference.merged import merged, shell
from zoo.inference.prefix import Prefix
from zoo.inference.shared_base import SharedBase
from zoo.layouts import CONFIG_NAME
from zoo.models import BaseModel, Dtype, resolve
from zoo.validators.conformance.difference import difference
from zoo.validators.conformance.kv import bit_print
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.stepping import log_probs, run_base
from zoo.validators.conformance.tolerance import Noise

SUFFIX, RANK, INVOCATION = 16, 32, [11, 12, 13]
TARGETS = ("q_proj", "k_proj", "v_proj")
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 512}  # fmt: skip
MAX_MS, MIN_PEFT, MIN_LORA = 15.0, 8.0, {1024: 3.0, 16384: 40.0}
COMMAND = "python -m tests.benchmarks.suffix_latency"


def make_base(folder: Path, device: str) -> BaseModel:
    """The model with random weights, saved; no tokenizer is needed, ids are drawn."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {**BIG, "max_position_embeddings": 131072, **(TINY if device == "cpu" else {})}
    with torch.device(device):
        model: Any = LlamaForCausalLM(LlamaConfig(**shape, dtype="bfloat16")).to(dtype=torch.bfloat16)  # type: ignore[call-arg]
    model.save_pretrained(folder, max_shard_size="20GB")
    del model
    if device == "cuda":
        torch.cuda.empty_cache()  # what is free says how much of conversations is held
    return resolve(str(folder))


def make_adapter(folder: Path, base: BaseModel, *, activated: bool, seed: int = 1) -> AdapterRepo:
    """Random factors with a clear effect, as an aLoRA or, the same, as a plain LoRA."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for path, (out, into) in base.linears.items():
        if path.endswith(TARGETS):
            a = torch.randn(RANK, into, generator=generator) * into**-0.5
            weights[f"base_model.model.{path}.lora_A.weight"] = a
            weights[f"base_model.model.{path}.lora_B.weight"] = (
                torch.randn(out, RANK, generator=generator) * 0.1
            )
    folder.mkdir(parents=True)
    save_file(weights, folder / WEIGHTS_NAME)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK,
              "target_modules": list(TARGETS), "base_model_name_or_path": base.id}  # fmt: skip
    config |= {"alora_invocation_tokens": INVOCATION} if activated else {}
    (folder / CONFIG_NAME).write_text(json.dumps(config))
    return AdapterRepo.open(folder)


class Bench:
    """One base, one adapter in every form, and what is measured on them."""

    def __init__(self, shared: SharedBase, folder: Path, device: str, repeats: int) -> None:
        self.shared, self.device, self.repeats = shared, device, repeats
        self.activated = make_adapter(folder / "alora", shared.base, activated=True)
        self.plain = make_adapter(folder / "lora", shared.base, activated=False)
        self.other = make_adapter(folder / "other", shared.base, activated=True, seed=2)
        self.adapted = shared.adapter(self.activated)

    def ids(self, count: int, seed: int) -> list[int]:
        """Random ids, none of the invocation's."""
        import torch

        drawn = torch.randint(20, self.shared.base.vocabulary, (count,), generator=torch.manual_seed(seed))
        return [int(id) for id in drawn]

    def suffix(self, seed: int) -> list[int]:
        return [*INVOCATION, *self.ids(SUFFIX - len(INVOCATION), seed)]

    def timed(self, call: Callable[[list[int]], int], repeats: int) -> tuple[float, float]:
        """Median and 95th percentile of a call over suffixes of its own each time, in ms."""
        times = []
        for number in range(repeats + 2):
            suffix = self.suffix(1000 + number)
            finish(self.device)
            begin = time.perf_counter()
            call(suffix)
            finish(self.device)
            times.append(1000 * (time.perf_counter() - begin))
        times = sorted(times[2:])
        return statistics.median(times), times[int(0.95 * (len(times) - 1))]

    def first(self, adapted: Adapted, prefix: Prefix, suffix: list[int], tokens: int = 1) -> int:
        return adapted.generate(prefix, suffix, max_new_tokens=tokens, end_ids=[]).ids[0]

    def ours(self, prefix: Prefix, other: Prefix) -> dict[str, Any]:
        """This engine, also right after another conversation, and its capture on first use."""
        begin = time.perf_counter()
        self.first(self.adapted, prefix, self.suffix(0))
        first_use = time.perf_counter() - begin
        median, high = self.timed(lambda suffix: self.first(self.adapted, prefix, suffix), self.repeats)

        def switching(suffix: list[int]) -> int:
            self.shared._continuation.begin(other, room=SUFFIX)  # another conversation's turn, not timed here
            finish(self.device)
            begin = time.perf_counter()
            self.first(self.adapted, prefix, suffix)
            switched.append(1000 * (time.perf_counter() - begin))
            return 0

        switched: list[float] = []
        self.timed(switching, 5)
        self.first(self.adapted, prefix, self.suffix(0), 33)
        long, _ = self.timed(lambda suffix: self.first(self.adapted, prefix, suffix, 33), 5)
        return {
            "ms": round(median, 2),
            "ms_p95": round(high, 2),
            "ms_after_another_conversation": round(statistics.median(switched[2:]), 2),
            "ms_decode_step": round((long - median) / 32, 2),
            "seconds_first_use": round(first_use, 2),
        }

    def peft_on_the_cache(self, prefix: Prefix) -> dict[str, Any]:
        """PEFT's aLoRA as people call it, and with the activation given instead of looked for."""
        import torch

        model = peft_model.attach(shell(self.shared.model), self.activated.root)

        def by_rule(suffix: list[int]) -> int:
            row = torch.tensor([suffix], device=self.device)
            return int(peft_model.forward_by_rule(model, row, cache=filled(prefix))[0, -1].argmax())

        def given(suffix: list[int]) -> int:
            row = torch.tensor([suffix], device=self.device)
            with torch.no_grad():
                cache = filled(prefix)
                logits = peft_model.forward(model, row, offsets=[SUFFIX], cache=cache, logits_to_keep=1)
            return int(logits[0, -1].argmax())

        return {
            "ms": round(self.timed(by_rule, self.repeats // 3)[0], 2),
            "ms_activation_given": round(self.timed(given, self.repeats // 3)[0], 2),
        }

    def plain_lora(self, prefix: Prefix) -> dict[str, Any]:
        """The same weights on every token, so the whole prompt: through PEFT, and merged into the base."""
        import torch

        repeats = 10 if len(prefix) < 4096 else 3 if len(prefix) < 32768 else 1

        def whole(model: Any) -> Callable[[list[int]], int]:
            def call(suffix: list[int]) -> int:
                row = torch.tensor([[*prefix.ids, *suffix]], device=self.device)
                with torch.no_grad():
                    logits = model(input_ids=row, use_cache=True, logits_to_keep=1).logits
                return int(logits[0, -1].argmax())

            return call

        attached = peft_model.attach(shell(self.shared.model), self.plain.root)
        found = {"ms": round(self.timed(whole(attached), repeats)[0], 2)}
        del attached
        model = merged(self.shared.model, self.shared.base, self.plain)
        return found | {"ms_merged": round(self.timed(whole(model), repeats)[0], 2)}

    def agreement(self, prefix: Prefix) -> dict[str, float | bool]:
        """Log-probabilities of the suffix against the reference on the same cache, in nats."""
        import torch

        model, suffix = self.shared.model, self.suffix(7)
        row = torch.tensor([suffix], device=self.device)
        reference = Reference.from_folder(model, self.activated)
        wanted = reference.log_probs(row, torch.ones_like(row, dtype=torch.bool), cache=filled(prefix))[0]
        found = self.adapted.logits(prefix, suffix).log_softmax(-1)
        base = log_probs(run_base(model, row, filled(prefix)))[0]
        from transformers import DynamicCache

        whole = torch.tensor([[*prefix.ids, *suffix]], device=self.device)
        again = log_probs(run_base(model, whole, DynamicCache(), logits_to_keep=SUFFIX))[0]
        scale = float(base.abs().max())
        noise = Noise.of(difference(base, again), scale=scale, dtype=model.dtype)
        apart = difference(found, wanted).max_abs
        return {
            "reference": round(apart, 4),
            "reference_rms": round(rms(found, wanted), 5),
            "tolerance": round(noise.other_shape, 4),
            "within": apart <= noise.other_shape,
            "base_noise_between_chunkings": round(noise.measured, 4),
            "without_the_adapter": round(difference(base, wanted).max_abs, 3),
            "without_the_adapter_rms": round(rms(base, wanted), 5),
        }

    def in_float32(self, prefix: Prefix) -> dict[str, float]:
        """How far bfloat16 is from the same weights in float32: the base's own, the reference's, and ours."""
        import copy

        import torch
        from transformers import DynamicCache

        suffix = self.suffix(7)
        row = torch.tensor([[*prefix.ids, *suffix]], device=self.device)
        mask = torch.zeros_like(row, dtype=torch.bool)
        mask[:, len(prefix) :] = True
        rounded = Reference.from_folder(self.shared.model, self.activated)
        half = rounded.log_probs(row, mask, logits_to_keep=SUFFIX)[0]
        base = log_probs(run_base(self.shared.model, row, DynamicCache(), logits_to_keep=SUFFIX))[0]
        found = self.adapted.logits(prefix, suffix).log_softmax(-1)
        model = copy.deepcopy(self.shared.model).float()
        wanted = Reference.from_folder(model, self.activated).log_probs(row, mask, logits_to_keep=SUFFIX)[0]
        exact = log_probs(run_base(model, row, DynamicCache(), logits_to_keep=SUFFIX))[0]
        return {
            "ours": round(difference(found, wanted).max_abs, 4),
            "reference_in_bfloat16": round(difference(half, wanted).max_abs, 4),
            "base_in_bfloat16": round(difference(base, exact).max_abs, 4),
            "without_the_adapter": round(difference(exact, wanted).max_abs, 3),
        }


def floor(ratio: float) -> float:
    """One decimal, rounded down: a bar is not reached by rounding."""
    return int(10 * ratio) / 10


def rms(one: Any, other: Any) -> float:
    """Root mean square difference."""
    return float((one - other).float().square().mean().sqrt())


def measure(bench: Bench, length: int, *, first: bool) -> dict[str, Any]:
    """Everything about one prefix length."""
    begin = time.perf_counter()
    prefix = bench.shared.prefill(bench.ids(length, 1))
    finish(bench.device)
    prefilled = time.perf_counter() - begin
    other = bench.shared.prefill(bench.ids(length // 2, 2))
    before = [bit_print(part) for pair in prefix.layers for part in pair]
    row: dict[str, Any] = {"seconds_prefill": round(prefilled, 2), "ours": bench.ours(prefix, other)}
    row["peft_alora"] = bench.peft_on_the_cache(prefix)
    row["plain_lora_whole_prompt"] = bench.plain_lora(prefix)
    row["log_probabilities"] = bench.agreement(prefix)
    if first:
        begin = time.perf_counter()
        second = bench.shared.adapter(bench.other)
        bench.first(second, prefix, bench.suffix(0))
        row["ours"]["seconds_another_adapter_merged_and_captured"] = round(time.perf_counter() - begin, 2)
        row["float32"] = bench.in_float32(prefix)
    row["prefix_untouched"] = before == [bit_print(part) for pair in prefix.layers for part in pair]
    ours = row["ours"]["ms"]
    row["times_peft_alora"] = floor(row["peft_alora"]["ms"] / ours)
    row["times_plain_lora"] = floor(row["plain_lora_whole_prompt"]["ms"] / ours)
    print(length, json.dumps(row), flush=True)
    return row


def met(found: dict[str, Any]) -> bool:
    """Whether every bar is reached at every length that has one."""
    return all(str(length) in found for length in MIN_LORA) and all(
        row["prefix_untouched"]
        and row["log_probabilities"]["within"]
        and (
            int(length) not in MIN_LORA
            or (
                row["ours"]["ms"] <= MAX_MS
                and row["times_peft_alora"] >= MIN_PEFT
                and row["times_plain_lora"] >= MIN_LORA[int(length)]
            )
        )
        for length, row in found.items()
    )


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """What the bar is about, by prefix length, and behind it everything that was measured."""
    return {
        "ms_to_first_token": {length: row["ours"]["ms"] for length, row in found.items()},
        "times_peft_alora": {length: row["times_peft_alora"] for length, row in found.items()},
        "times_plain_lora": {length: row["times_plain_lora"] for length, row in found.items()},
        "by_length": found,
    }


BAR = (
    "at 1k and 16k tokens: <= 15 ms; >= 8x PEFT's aLoRA; >= 40x plain LoRA at 16k and >= 3x at 1k; "
    "log-probabilities as the reference's within its tolerance"
)
NOTE = (
    "medians of whole calls with their Python; longer prefixes are reported and have no bar; PEFT's aLoRA as "
    "people call it, `ms_activation_given` is the same without the search for the invocation; the reference "
    "runs the bfloat16 weights with the update in float32; `float32` compares with the same weights in "
    "float32 throughout; `ms_merged` is plain LoRA merged into the base, which is faster than PEFT's; "
    "differences are the largest over 16 positions and the whole vocabulary, in nats"
)


def save(found: dict[str, Any]) -> None:
    """The figure, in place of an earlier one."""
    record(
        "io",
        "io-5",
        "Llama of 8B, random weights, bfloat16, on one GPU: ms from a 16-token suffix on a ready cache to "
        "the first token on the host, by prefix length",
        summary(found),
        BAR,
        met(found),
        "PEFT's aLoRA on the same cache and PEFT's plain LoRA over the whole prompt, in the same run",
        COMMAND,
        note=NOTE,
    )


def main() -> None:
    """Measures length by length, and records as soon as those with a bar are known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--prefixes", type=int, nargs="+", default=[1024, 16384, 65536])
    parser.add_argument("--repeats", type=int, default=30)
    options = parser.parse_args()
    dtype: Dtype = "bfloat16"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="suffix-") as name:
        base = make_base(Path(name) / "base", options.device)
        shared = SharedBase.open(base, device=options.device, dtype=dtype)
        bench = Bench(shared, Path(name), options.device, options.repeats)
        for length in options.prefixes:
            found[str(length)] = measure(bench, length, first=not found)
            if options.device == "cuda" and {str(bar) for bar in MIN_LORA} <= set(found):
                save(found)


if __name__ == "__main__":
    main()
