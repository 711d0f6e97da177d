"""train-1: gradients and losses on cached prefixes against PEFT's full pass, in float32.

Three architectures with random weights and an adapter on every linear layer. Batches have suffixes and
prefixes of different lengths, prefixes in common, one prefix twice and one that is empty. Every gradient
tensor is compared, in batches and one row at a time. Then 50 steps of AdamW are made twice from the same
weights. The two loss curves are indistinguishable when they differ nowhere by more than three times what the
full pass differs from itself when its batches get seven columns of padding more: what rounding alone does.

Controls: the adapter one token late, prefixes adapted, prefixes of other rows; each must break the bar of the
gradients a hundredfold and, trained with, that of the curves.

Run: python -m tests.benchmarks.train_gradients
"""

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from tests.training.engine import build, full_pass, gradients, largest_difference
from tests.validators.conformance.bench import ARCHITECTURES
from zoo.training.dataset import Encoded
from zoo.training.prefix import PrefixStore, answer_loss

BAR = 1e-5
STEPS = 50
BATCHES = ([0, 1, 2, 3], [4, 5, 6, 7], [1, 7, 3, 6], list(range(8)), *([row] for row in range(8)))
OF_NOISE = 3.0
RATE = 1e-3

Loss = Callable[[Sequence[int]], Tensor]


def losses_of(model: PeftModel, samples: list[Encoded]) -> dict[str, Loss]:
    """Ways to the loss of a batch: the full pass, ours, the full pass rounded otherwise, and controls."""
    late = [replace(s, prefix=(*s.prefix, s.lead[0]), lead=s.lead[1:]) for s in samples]
    stores = {
        "cached": PrefixStore(model, samples),
        "late": PrefixStore(model, late),
        "adapted": PrefixStore(model, samples, adapted=True),
        "others": PrefixStore(model, samples),
    }
    for store in stores.values():
        store.fill()
    others = stores["others"]
    pieces = others.pieces
    others.pieces = lambda rows: pieces([(row + 1) % 8 for row in rows])  # type: ignore[method-assign]
    found: dict[str, Loss] = {
        name: lambda rows, store=store: answer_loss(store, rows)  # type: ignore[misc]
        for name, store in stores.items()
    }
    found["full"] = lambda rows: full_pass(model, samples, rows)
    found["rounded"] = lambda rows: full_pass(model, samples, rows, spare=7)
    return found


def curve(model: PeftModel, samples: list[Encoded], way: str) -> Tensor:
    """The losses of some steps, nats a token, float64 `[steps]`; the weights are put back."""
    trained = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    loss_of = losses_of(model, samples)[way]
    found = []
    for step in range(STEPS):
        rows = BATCHES[step % 4]
        tokens = sum(len(samples[row].answer) for row in rows)
        loss = loss_of(rows) / tokens
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    for parameter, value in zip(trained, before, strict=True):
        parameter.data.copy_(value)
    return torch.tensor(found, dtype=torch.float64)


def measure(family: str, folder: Path) -> dict[str, Any]:
    """Every figure of one architecture."""
    model, samples = build(folder, family)
    ways = losses_of(model, samples)
    differences = dict.fromkeys(ways, 0.0)
    for rows in BATCHES:
        expected = gradients(model, ways["full"](rows))
        for name, loss_of in ways.items():
            found = largest_difference(gradients(model, loss_of(rows)), expected)
            differences[name] = max(differences[name], found)
    curves = {name: curve(model, samples, name) for name in ways}
    apart = {name: float((line - curves["full"]).abs().max()) for name, line in curves.items()}
    return {
        "tensors": sum(p.requires_grad for p in model.parameters()),
        "gradients": differences,
        "curves": apart,
        "loss": [float(curves["full"][step]) for step in (3, STEPS - 3)],  # both of the batch of all rows
    }


def meets(one: dict[str, Any]) -> bool:
    """Whether an architecture's gradients and curves agree, and every control's do not."""
    noise = one["curves"]["rounded"]
    controls = ("late", "adapted", "others")
    return (
        one["gradients"]["cached"] <= BAR
        and one["curves"]["cached"] <= OF_NOISE * noise
        and all(one["gradients"][name] > 100 * BAR for name in controls)
        and all(one["curves"][name] > 100 * noise for name in controls)
        and one["loss"][1] < one["loss"][0] - 0.1  # a curve that goes nowhere would prove little
    )


def rounded(value: Any) -> Any:
    """Figures with two digits, for people."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items() if key != "full"}
    return [rounded(one) for one in value] if isinstance(value, list) else float(f"{value:.3g}")


def main() -> None:
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as name:
        found = {family: measure(family, Path(name)) for family in ARCHITECTURES}
    from tests.benchmarks.evidence import record

    record(
        "train",
        "train-1",
        "Largest relative difference of a gradient tensor on cached prefixes from PEFT's full pass, float32, "
        f"{', '.join(found)}; largest difference of two loss curves over {STEPS} steps, nats a token",
        rounded(found),
        f"gradients <= {BAR:g}; curves within {OF_NOISE:g} times what the full pass differs from itself "
        "with seven columns of padding more",
        all(meets(one) for one in found.values()),
        "PEFT's own full pass, which finds the offsets itself; controls: adapter one token late, prefixes "
        "adapted, prefixes of other rows",
        "python -m tests.benchmarks.train_gradients",
        note="'rounded' is the full pass against itself with other padding; batches of different lengths, "
        "shared, repeated and empty prefixes; two-layer bases with random weights",
    )


if __name__ == "__main__":
    main()
