"""What runs on a GPU alone: attention kernels, recorded steps, and prefixes that come from other memory.

Run where there is one: pytest -m gpu tests/training/test_cuda.py
"""

from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from tests.training.engine import build, full_pass
from tests.training.row_kernel import DENSE
from zoo.training.dataset import Encoded
from zoo.training.exact import Row, Rule
from zoo.training.flash import CUDA, Kernel, Lines, attend
from zoo.training.graphs import Graphs
from zoo.training.prefix import PrefixStore, answer_logits, answer_loss
from zoo.training.ragged import Ragged
from zoo.training.tiers import Budget

pytestmark = pytest.mark.gpu

OWN, BEFORE = (5, 1, 0, 9), (40, 0, 7, 300)  # tokens of rows, and of what they continue
HEADS, GROUPS, HEAD = 4, 2, 16


def lines(counts: tuple[int, ...], times: int = 1) -> Tensor:
    return torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32) * times


def attended(kernel: Kernel, given: list[Tensor], wish: Tensor) -> list[Tensor]:
    """The output and the gradients of query, key and value."""
    device = given[0].device
    query, key, value = (x.detach().requires_grad_() for x in given[:3])
    own, before = lines(OWN).to(device), lines(BEFORE).to(device)
    out = attend(
        query, key, value, (given[3], given[4]),
        Lines(queries=own, keys=own, longest_query=16, longest_key=16, causal=True, scale=0.25),
        Lines(
            queries=own * GROUPS, keys=before, longest_query=16 * GROUPS, longest_key=300, causal=False,
            scale=0.25,
        ),
        kernel,
    )  # fmt: skip
    return [out.detach(), *torch.autograd.grad(out, (query, key, value), wish)]


def apart(a: Tensor, b: Tensor) -> float:
    return float((a.cpu().float() - b.cpu().float()).norm() / b.float().norm().cpu())


@pytest.fixture
def inputs() -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    kv = HEADS // GROUPS
    shapes = [(HEADS, sum(OWN), HEAD), *[(kv, sum(OWN), HEAD)] * 2, *[(sum(BEFORE), kv, HEAD)] * 2]
    return [torch.randn(shape).bfloat16() for shape in shapes], torch.randn(shapes[0]).bfloat16()


def test_the_kernels_compute_what_is_written_out(inputs: tuple[list[Tensor], Tensor]) -> None:
    given, wish = inputs
    wanted = attended(DENSE, [x.float() for x in given], wish.float())
    found = attended(CUDA, [x.cuda() for x in given], wish.cuda())
    assert max(apart(a, b) for a, b in zip(found, wanted, strict=True)) < 0.02
    other = attended(CUDA, [x.cuda() for x in (*given[:4], given[4].flip(0))], wish.cuda())
    assert apart(other[0], wanted[0]) > 0.1  # the prefix is seen


def test_rows_of_different_lengths_are_taken_at_once(inputs: tuple[list[Tensor], Tensor]) -> None:
    given, _ = inputs
    prefixes = [x.transpose(0, 1) for x in given[3:]]
    marks = [*accumulate(BEFORE, initial=0)]
    begins = [*accumulate(OWN, initial=0)]

    def found(device: str, kernel: Kernel, dtype: torch.dtype, moved: int = 0) -> Tensor:
        query, key, value = (x.to(device, dtype) for x in given[:3])
        keys, values = prefixes[0].to(device, dtype), prefixes[1].roll(moved, dims=1).to(device, dtype)
        rows = [
            Row(begin=a, end=b, pieces=[[(keys[:, c:d], values[:, c:d])]] if d > c else ())
            for (a, b), (c, d) in zip(pairwise(begins), pairwise(marks), strict=True)
            if b > a
        ]
        made = Ragged.of(rows, torch.device(device), kernel)
        assert made is not None
        return made.attend(query, key, value, Rule(scale=0.25), 0)

    wanted = found("cpu", DENSE, torch.float32)
    assert apart(found("cuda", CUDA, torch.bfloat16), wanted) < 0.02
    assert apart(found("cuda", CUDA, torch.bfloat16, moved=1), wanted) > 0.1  # other values would show


def test_answers_of_rows_taken_at_once_are_those_of_rows_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = build(tmp_path / "exact", "llama")
    wanted = answers(model, samples)
    model, samples = on_the_gpu(tmp_path)
    rows_at_once, base = answers(model, samples), answers(model, samples, adapted=False)
    monkeypatch.setattr(Ragged, "serves", staticmethod(lambda *_: False))
    one_by_one = answers(model, samples)
    assert apart(rows_at_once, wanted) < 2 * apart(one_by_one, wanted)
    assert apart(base, wanted) > 5 * apart(rows_at_once, wanted)


def answers(model: PeftModel, samples: list[Encoded], *, adapted: bool = True) -> Tensor:
    store = PrefixStore(model, samples, graphs=False)
    with torch.no_grad():
        return torch.cat(answer_logits(store, range(len(samples)), adapted=adapted))


def gradients(model: PeftModel, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten().float().cpu() for p in model.parameters() if p.grad is not None])


def on_the_gpu(folder: Path) -> tuple[PeftModel, list[Encoded]]:
    """A tiny Llama in bfloat16 and its samples."""
    model, samples = build(folder, "llama")
    for parameter in model.parameters():
        parameter.data = (
            parameter.data.cuda() if parameter.requires_grad else parameter.data.cuda().bfloat16()
        )
    for buffer in model.buffers():
        buffer.data = buffer.data.cuda()
    return model, samples


BATCHES = [range(8), (0, 2, 4), (5, 1), (7, 6, 3, 2), range(8), (0, 2, 4), range(8)]


def test_recorded_steps_are_as_far_from_float32_as_the_full_pass(tmp_path: Path) -> None:
    model, samples = build(tmp_path / "exact", "llama")
    exact = [gradients(model, full_pass(model, samples, rows)) for rows in BATCHES]
    model, samples = on_the_gpu(tmp_path)
    shared = Graphs(model)
    store = PrefixStore(model, samples, graphs=shared)
    found = [gradients(model, answer_loss(store, rows)) for rows in BATCHES]
    assert shared.replays == len(BATCHES)
    for rows, wanted, one in zip(BATCHES, exact, found, strict=True):
        peft = apart(gradients(model, full_pass(model, samples, rows)), wanted)
        plain = PrefixStore(model, samples, graphs=False)
        assert apart(one, wanted) < 2 * max(peft, apart(gradients(model, answer_loss(plain, rows)), wanted))
    assert apart(found[1], exact[2]) > 0.1
    # bit for bit, whatever came between: a training can be repeated
    assert torch.equal(found[0], found[4])
    assert torch.equal(found[0], found[6])
    assert torch.equal(found[1], found[5])


def test_weights_that_change_are_seen_by_recorded_steps(tmp_path: Path) -> None:
    model, samples = on_the_gpu(tmp_path)
    store = PrefixStore(model, samples, graphs=Graphs(model))
    first = answer_loss(store, [0, 1]).item()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5)
    plain = answer_loss(PrefixStore(model, samples, graphs=False), [0, 1]).item()
    found = answer_loss(store, [0, 1]).item()
    assert abs(found - plain) < 0.2 * abs(found - first)


@pytest.mark.parametrize("tier", ["device", "host", "disk", "all", "none"])
def test_prefixes_are_the_same_from_every_tier(tier: str, tmp_path: Path) -> None:
    model, samples = on_the_gpu(tmp_path)
    whole = PrefixStore(model, samples, graphs=False, budget=Budget(device=1 << 30))
    whole.fill()
    room = {name: 1 << 24 if tier == name else 0 for name in ("device", "host", "disk")}
    if tier == "all":
        room = {"device": whole.kept_bytes // 3, "host": whole.kept_bytes // 3, "disk": 1 << 24}
    budget = Budget(**room, folder=tmp_path if room["disk"] else None)
    store = PrefixStore(model, samples, graphs=False, budget=budget)
    store.fill()
    used = {name for name, size in store.tiers.used.items() if size}
    assert used == ({"device", "host", "disk"} if tier == "all" else {tier} - {"none"})
    order = [[0, 1, 2], [3, 4, 5], [6, 7, 0]] * 3
    for rows, after in zip(order, [*order[1:], []], strict=True):
        found = answer_loss(store, rows)
        store.prefetch(after)
        assert found.item() == pytest.approx(answer_loss(whole, rows).item(), rel=1e-3)
        for path, other in zip(store.entries(rows), whole.entries(rows), strict=True):
            for one, wanted in zip(path, other, strict=True):
                assert one.flat.device.type == "cuda"
                assert tier == "none" or torch.equal(one.flat, wanted.flat)
