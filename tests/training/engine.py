"""Samples of different lengths with prefixes in common, PEFT's own full pass over them, and gradients."""

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.validators.conformance.bench import adapter_settings, build_base, invocation_ids
from zoo.models import load_model
from zoo.training.dataset import Encoded

TOLERANCE = 1e-5
VOCABULARY = 60


def tokens(source: random.Random, count: int) -> tuple[int, ...]:
    return tuple(source.randrange(5, VOCABULARY) for _ in range(count))


def shared_samples(invocation: Sequence[int]) -> list[Encoded]:
    """A conversation and its next turn, a document under three questions, one prefix twice, none at all."""
    source = random.Random(0)
    document = tokens(source, 20)
    prefixes = [document + tokens(source, n) for n in (3, 17, 30)]
    prefixes += [(), document, tokens(source, 9), prefixes[1] + tokens(source, 25), prefixes[1]]
    return [
        Encoded(
            line=index + 1,
            prefix=prefix,
            lead=(*invocation, *tokens(source, index % 3)),
            answer=tokens(source, 1 + index % 4),
        )
        for index, prefix in enumerate(prefixes)
    ]


def build(folder: Path, family: str, *, seed: int = 0) -> tuple[PeftModel, list[Encoded]]:
    """A tiny base with an aLoRA on every linear layer, none of its weights zero, and samples for it."""
    base = build_base(folder / family, family)
    invocation = invocation_ids(base)
    torch.manual_seed(seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        init_lora_weights=False,
        alora_invocation_tokens=invocation,
        **adapter_settings(family),
    )
    # transformers itself computes Gemma 2's soft cap in its eager attention alone
    loaded = load_model(base, attention="eager" if family == "gemma2" else "")
    model = get_peft_model(loaded, config).eval()
    assert isinstance(model, PeftModel)
    return model, shared_samples(invocation)


def full_pass(model: PeftModel, samples: Sequence[Encoded], rows: Sequence[int], *, spare: int = 0) -> Tensor:
    """PEFT alone: whole sequences, padded on the right, no offsets given; summed loss of the answers.

    `spare` columns of padding more change shapes and nothing else: what that changes is rounding.
    """
    whole = [samples[row].prefix + samples[row].lead + samples[row].answer for row in rows]
    width = max(map(len, whole)) + spare
    ids = torch.tensor([[*one, *[0] * (width - len(one))] for one in whole], device=model.device)
    mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in whole], device=model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    losses = []
    for row, one, line in zip(rows, whole, logits, strict=True):
        answer = samples[row].answer
        predicted = line[len(one) - len(answer) - 1 : len(one) - 1].float()
        wanted = torch.tensor(answer, device=model.device)
        losses.append(cross_entropy(predicted, wanted, reduction="sum"))
    return torch.stack(losses).sum()


def gradients(model: PeftModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest relative difference of one tensor's gradient, in the 2-norm."""
    assert a.keys() == b.keys()
    assert a
    return max(float((a[name] - b[name]).norm() / b[name].norm()) for name in a)
