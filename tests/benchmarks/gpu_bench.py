"""What the figures of training on a GPU are measured with: a Llama, an aLoRA on it, samples, and clocks."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from zoo.training.dataset import Encoded

INVOCATION = (1, 5875, 198)
SUFFIX = 64  # tokens of invocation and answer
ANSWER = 48


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
