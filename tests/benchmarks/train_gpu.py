"""train-2 to train-4: steps on cached prefixes on one GPU, against PEFT's full pass with checkpointing.

A Llama of 8B with random weights, bfloat16, an aLoRA of rank 32 on q, k and v in float32. Both arms of a
figure run in this process on the same samples; a step is loss, gradients and optimiser. The full pass reads
the vocabulary only where an answer is predicted, which spares it more than Trainer would. A check stands
before every timing: gradients of the recorded step against the unrecorded one and the full pass.

    python -m tests.benchmarks.train_gpu [--figures 2,3,4] [--no-graphs] [--baseline-samples 60]
    python -m tests.benchmarks.train_gpu --tiny     # on the CPU, to see that it runs; records nothing
"""

import argparse
import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zoo.progress import silent
from zoo.training.dataset import Encoded
from zoo.training.graphs import release
from zoo.training.prefix import PrefixStore, answer_loss

INVOCATION = (1, 5875, 198)
SUFFIX = 64  # tokens of invocation and answer
ANSWER = 48
H100_BYTES_PER_SECOND = 3.35e12
COMMAND = "python -m tests.benchmarks.train_gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What the figures are measured on."""

    model: dict[str, Any]
    device: str
    long: int
    middle: int
    samples: int
    spread: tuple[int, int]
    repeats: int


GPU = Size(
    model={
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 32768, "rope_theta": 500000.0,
        "vocab_size": 128256,
    },
    device="cuda", long=16384, middle=4096, samples=400, spread=(1000, 2000), repeats=7,
)  # fmt: skip
TINY = Size(
    model={
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "vocab_size": 8192,
    },
    device="cpu", long=512, middle=128, samples=12, spread=(40, 80), repeats=2,
)  # fmt: skip


def build(size: Size) -> Any:
    """The base with a fresh aLoRA whose B is not zero, so that gradients reach every factor."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    with torch.device(size.device):
        made: Any = LlamaForCausalLM(LlamaConfig(**size.model))
        base = made.to(dtype=torch.bfloat16)
    base.requires_grad_(False)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=32,
        lora_alpha=64,
        target_modules=["q_proj", "k_proj", "v_proj"],
        alora_invocation_tokens=list(INVOCATION),
        init_lora_weights=False,
    )
    model = get_peft_model(base, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float() * 0.1
    return model.eval()


def samples(lengths: Sequence[int], vocabulary: int) -> list[Encoded]:
    """Random prefixes, answers of one length; no token of them is part of the invocation."""
    source = random.Random(0)
    high = min(vocabulary, 5000)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(source.randrange(200, high) for _ in range(count))

    lead = (*INVOCATION, *draw(SUFFIX - ANSWER - len(INVOCATION)))
    return [Encoded(line=i, prefix=draw(n), lead=lead, answer=draw(ANSWER)) for i, n in enumerate(lengths, 1)]


def full_loss(model: Any, given: Sequence[Encoded], rows: Sequence[int], device: str) -> Tensor:
    """PEFT's own pass over whole prompts, padded on the left, so that all answers end together."""
    whole = [given[row].prefix + given[row].lead + given[row].answer for row in rows]
    width = max(map(len, whole))
    ids = torch.tensor([[*[0] * (width - len(one)), *one] for one in whole], device=device)
    mask = None
    if min(map(len, whole)) < width:
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in whole], device=device)
    positions = None if mask is None else (mask.cumsum(dim=1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
        logits_to_keep=ANSWER + 1,
    ).logits[:, :-1]
    wanted = torch.tensor([given[row].answer for row in rows], device=device)
    return cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="sum")


class Bench:
    """A model, its optimiser, and clocks."""

    def __init__(self, size: Size, *, graphs: bool) -> None:
        self.size = size
        self.graphs = None if graphs else False
        self.model = build(size)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.cuda = size.device == "cuda"
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-5, weight_decay=0.0, fused=self.cuda or None)
        self.weights_bytes = sum(p.nbytes for p in self.model.parameters())

    def step(self, loss: Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, do: Callable[[], None], repeats: int | None = None) -> tuple[float, float]:
        """Median seconds after two runs to warm up, and the peak memory of the timed ones, GiB."""
        for _ in range(2):
            do()
        self.reset_peak()
        seconds = []
        for _ in range(repeats or self.size.repeats):
            begin = self.now()
            do()
            seconds.append(self.now() - begin)
        return statistics.median(seconds), self.peak()

    def reset_peak(self) -> None:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float:
        return torch.cuda.max_memory_allocated() / 2**30 if self.cuda else 0.0

    def checkpointed(self) -> "Iterator[None]":
        """Gradient checkpointing on; advance once more to switch it off."""
        base = self.model.get_base_model()
        base.gradient_checkpointing_enable({"use_reentrant": False})
        self.model.train()
        yield
        base.gradient_checkpointing_disable()
        self.model.eval()

    def gradients(self, loss: Tensor) -> Tensor:
        loss.backward()
        found = torch.cat([p.grad.flatten() for p in self.trained if p.grad is not None]).clone()
        self.optimizer.zero_grad(set_to_none=True)
        return found


def check(bench: Bench) -> dict[str, float]:
    """How far gradients are from one another in bfloat16: recorded, unrecorded, the full pass."""
    given = samples([200, 333, 90, 256], bench.size.model["vocab_size"])
    rows = range(len(given))
    full = bench.gradients(full_loss(bench.model, given, rows, bench.size.device))
    plain = bench.gradients(answer_loss(PrefixStore(bench.model, given, graphs=False), rows))
    store = PrefixStore(bench.model, given, graphs=bench.graphs)
    first = bench.gradients(answer_loss(store, rows))
    again = bench.gradients(answer_loss(store, rows))
    other = bench.gradients(answer_loss(PrefixStore(bench.model, given, graphs=False), [0]))

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a - b).norm() / b.norm())

    found = {
        "recorded": bench.cuda and bench.graphs is not False,
        "plain_from_full": apart(plain, full),
        "ours_from_full": apart(first, full),
        "ours_from_plain": apart(first, plain),
        "replay_from_first": apart(again, first),
        "control_one_row_from_full": apart(other, full),
    }
    print("check", json.dumps(found), flush=True)
    if not found["ours_from_full"] < 2 * found["plain_from_full"] + 1e-3:
        raise SystemExit("the recorded step has other gradients: nothing is timed")
    return found


def cached_step(
    bench: Bench, given: Sequence[Encoded], halves: Sequence[Sequence[int]]
) -> tuple[float, float]:
    """Seconds and peak memory of a step whose prefixes are stored, two batches in turn."""
    store = PrefixStore(bench.model, given, graphs=bench.graphs)
    store.fill()
    turn = iter(range(1 << 30))

    def step() -> None:
        rows, after = halves if next(turn) % 2 else halves[::-1]
        store.prefetch(after)
        bench.step(answer_loss(store, rows))

    found = bench.timed(step)
    release(bench.model)
    return found


def one_length(bench: Bench, prefix: int, batch: int) -> dict[str, Any]:
    """Cached step, first pass and full pass with checkpointing at one length."""
    size = bench.size
    given = samples([prefix] * batch * 2, size.model["vocab_size"])
    halves = [list(range(batch)), list(range(batch, 2 * batch))]
    filled, filled_peak = bench.timed(
        lambda: PrefixStore(bench.model, given[:batch], graphs=bench.graphs).fill(), 3
    )
    step, _ = cached_step(bench, given, halves)
    # memory is that of one batch, as the full pass holds one
    _, step_peak = cached_step(bench, given[:batch], halves[:1] * 2)
    switch = bench.checkpointed()
    next(switch)
    full, full_peak = bench.timed(
        lambda: bench.step(full_loss(bench.model, given, halves[0], size.device)), 3
    )
    next(switch, None)
    weights = bench.weights_bytes / 2**30
    limit = 2 * bench.weights_bytes / H100_BYTES_PER_SECOND  # every weight read forward and backward
    return {
        "cached_s": step,
        "prefixes_s": filled,
        "full_s": full,
        "cached_ratio": full / step,
        "first_pass_ratio": full / (filled + step),
        "peak_gib": {"weights": weights, "cached": step_peak, "prefixes": filled_peak, "full": full_peak},
        "memory_beyond_weights": (max(step_peak, filled_peak) - weights) / max(1e-9, full_peak - weights),
        "memory": max(step_peak, filled_peak) / max(1e-9, full_peak),
        "limit_s": limit,
        "cached_by_limit": step / limit,
    }


def whole_training(bench: Bench, baseline_samples: int) -> dict[str, Any]:
    """Three passes over many samples, the first with their prefixes, against Trainer on some of them."""
    size, batch = bench.size, 4
    source = random.Random(1)
    given = samples([source.randint(*size.spread) for _ in range(size.samples)], size.model["vocab_size"])
    bench.reset_peak()
    begin = bench.now()
    store = PrefixStore(bench.model, given, graphs=bench.graphs)
    store.fill(silent)
    filled = bench.now() - begin
    order = []
    for epoch in range(3):
        rows = list(range(len(given)))
        random.Random(epoch).shuffle(rows)
        order += [rows[i : i + batch] for i in range(0, len(rows), batch)]
    loss = None
    for rows, after in zip(order, [*order[1:], []], strict=True):
        loss = answer_loss(store, rows)
        store.prefetch(after)
        bench.step(loss)
    ours = 3 * len(given) / (bench.now() - begin)
    note, peak = store.note(), bench.peak()
    del store, loss
    release(bench.model)
    theirs = trainer(bench, given[: baseline_samples or len(given)], batch)
    return {
        "samples_per_second": {"zoo": ours, "trainer": theirs},
        "ratio": ours / theirs,
        "prefixes_s": filled,
        "kept": note,
        "peak_gib": peak,
        "trainer_on": baseline_samples or len(given),
    }


def trainer(bench: Bench, given: Sequence[Encoded], batch: int) -> float:
    """Samples a second of PEFT and transformers' Trainer with checkpointing, in one pass."""
    import tempfile

    from transformers import Trainer, TrainingArguments

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
        return {
            name: torch.tensor([row[name] + [value] * (width - len(row[name])) for row in rows])
            for name, value in fill.items()
        }

    data = [
        {
            "input_ids": [*s.prefix, *s.lead, *s.answer],
            "labels": [*[-100] * len(s.prefix + s.lead), *s.answer],
            "attention_mask": [1] * len(s.prefix + s.lead + s.answer),
        }
        for s in given
    ]
    bench.reset_peak()
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=batch,
            num_train_epochs=1,
            learning_rate=1e-5,
            gradient_checkpointing=True,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            bf16=bench.cuda,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not bench.cuda,
            remove_unused_columns=False,
        )
        kind: Any = Trainer
        made = kind(model=bench.model, args=arguments, train_dataset=data, data_collator=collate)
        begin = bench.now()
        made.train()
        seconds = bench.now() - begin
    bench.model.get_base_model().gradient_checkpointing_disable()
    bench.model.eval()
    return len(given) / seconds


def report(figure: str, value: dict[str, Any], checked: dict[str, float]) -> None:
    """Puts a figure into the evidence."""
    from tests.benchmarks.evidence import record

    value = {**value, "check": checked}
    if figure == "4":
        record(
            "train",
            "train-4",
            "Samples a second, three passes over 400 samples of 1-2k tokens, 8B, bfloat16, prefixes included",
            value,
            "ratio >= 5",
            value["ratio"] >= 5,
            "PEFT + transformers Trainer with checkpointing, batch 4, same process and GPU",
            COMMAND,
        )
        return
    least = 25 if figure == "2" else 20
    where = "prefix 16k, batch 1" if figure == "2" else "prefix 4k, batch 4"
    met = value["cached_ratio"] >= least and value["first_pass_ratio"] >= 3
    bar = f"cached_ratio >= {least}, first_pass_ratio >= 3"
    if figure == "2":
        met = met and value["memory_beyond_weights"] <= 0.4
        bar += ", memory_beyond_weights <= 0.4 (the weights themselves are in both arms)"
    record(
        "train",
        f"train-{figure}",
        f"Seconds of an optimisation step, 8B in bfloat16, {where}, suffix {SUFFIX}",
        value,
        bar,
        met,
        "PEFT's full pass with checkpointing, same process and GPU",
        COMMAND,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figures", default="2,3,4")
    parser.add_argument("--no-graphs", action="store_true")
    parser.add_argument("--baseline-samples", type=int, default=60)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    size = TINY if options.tiny else GPU
    bench = Bench(size, graphs=not options.no_graphs)
    checked = check(bench)
    work: dict[str, Callable[[], dict[str, Any]]] = {
        "2": lambda: one_length(bench, size.long, 1),
        "3": lambda: one_length(bench, size.middle, 4),
        "4": lambda: whole_training(bench, min(size.samples, options.baseline_samples)),
    }
    for figure in options.figures.split(","):
        value = work[figure]()
        print(figure, json.dumps(value, indent=1), flush=True)
        if not options.tiny:
            report(figure, value, checked)


if __name__ == "__main__":
    main()
