from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import AdamW

from tests.training import rite_by_pair
from zoo.errors import UsageError
from zoo.training import optimisers, rite

RANK, INSIDE, OUTSIDE = 3, 11, 7
Pair = tuple[Parameter, Parameter]
NAMES = ("m.lora_A.default.weight", "m.lora_B.default.weight")


def problem(seed: int = 0) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """A random pair of factors and eight batches to fit, float64."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return (
        draw(RANK, INSIDE),
        draw(OUTSIDE, RANK),
        [(draw(20, INSIDE), draw(20, OUTSIDE)) for _ in range(8)],
    )


def updates(
    make: Callable[[Pair], Any], a: Tensor, b: Tensor, batches: list[tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """The product B·A after each step."""
    pair = Parameter(a.clone()), Parameter(b.clone())
    optimizer = make(pair)
    found = []
    for inputs, wanted in batches:
        (((inputs @ pair[0].T @ pair[1].T) - wanted) ** 2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append((pair[1] @ pair[0]).detach())
    return found


def spread(make: Callable[[Pair], Any], turn: Tensor) -> float:
    """How far the products of (A, B) and (R·A, B·R⁻¹) are apart, relative to how far they moved."""
    a, b, batches = problem()
    one = updates(make, a, b, batches)
    other = updates(make, turn @ a, b @ torch.linalg.inv(turn), batches)
    return max(float((x - y).norm() / (x - b @ a).norm()) for x, y in zip(one, other, strict=True))


def rite_of(pair: Pair) -> Any:
    return rite.LoraRite([pair], lr=0.05, clip=0.1)


def adamw_of(pair: Pair) -> Any:
    return AdamW(pair, lr=0.05, weight_decay=0.0)


SCALE = 5.0 * torch.eye(RANK, dtype=torch.float64)
TURNS = {
    "scaled": SCALE,
    "rotated": torch.linalg.qr(problem(5)[0][:, :RANK])[0],
    "any": problem(7)[0][:, :RANK],
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
def test_lora_rite_moves_a_product_alike_however_it_is_factored(turn: Tensor) -> None:
    assert spread(rite_of, turn) < 1e-9


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS.keys())
def test_control_adamw_does_not(turn: Tensor) -> None:
    assert spread(adamw_of, turn) > 0.05


@pytest.mark.parametrize("broken", ["carry", "gradient"])
def test_control_lora_rite_without_one_of_its_parts_does_not(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = rite._moments

    def in_the_old_basis(states: list[Any], gradients: list[Tensor], bases: list[Tensor], *more: Any) -> Any:
        """As if the moments were still in this step's basis."""
        held = [{**state, "basis": basis} for state, basis in zip(states, bases, strict=True)]
        return moments(held, gradients, bases, *more)

    def magnified(alike: list[rite.Alike], inverses: list[Tensor]) -> list[Tensor]:
        return [one.gradients() for one in alike]

    part = {"carry": ("_moments", in_the_old_basis), "gradient": ("_unmagnified", magnified)}[broken]
    monkeypatch.setattr(rite, *part)
    assert spread(rite_of, TURNS["any"]) > 1e-3


def test_lora_rite_is_the_same_on_any_orthonormal_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing hangs on the choice: with QR and a pseudo-inverse it is as with eigenvectors."""
    a, b, batches = problem()
    expected = updates(rite_of, a, b, batches)

    def triangular(matrices: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [(basis, torch.linalg.pinv(size)) for basis, size in map(torch.linalg.qr, matrices)]

    monkeypatch.setattr(rite, "_factored", triangular)
    torch.testing.assert_close(updates(rite_of, a, b, batches), expected)


def test_the_first_step_of_lora_rite_is_its_equations() -> None:
    """Without a past: V is g·gᵀ/n, so S has the singular vectors of g and singular values √n."""
    a, b, batches = problem()
    moved = updates(lambda pair: rite.LoraRite([pair], lr=1.0, eps=0.0), a, b, batches[:1])[0]
    inputs, wanted = batches[0]
    gradient = 2 / wanted.numel() * (inputs @ a.T @ b.T - wanted).T @ inputs  # of the product
    left, right = torch.linalg.qr(b)[0], torch.linalg.qr(a.T)[0]
    u, _, v = torch.linalg.svd(left.T @ gradient, full_matrices=False)
    new_a = a - torch.linalg.pinv(b) @ left @ (INSIDE**0.5 * u @ v)
    u, _, v = torch.linalg.svd(gradient @ right, full_matrices=False)
    new_b = b - (OUTSIDE**0.5 * u @ v) @ right.T @ torch.linalg.pinv(a)
    torch.testing.assert_close(moved, new_b @ new_a)


def test_escaped_mass_is_what_the_projection_lost() -> None:
    second = torch.diag(torch.tensor([4.0, 1.0]))
    away = torch.tensor([[0.0, 0.0], [0.0, 1.0]])  # the first direction is gone
    before, after = (torch.linalg.eigvalsh(one) for one in (second, away @ second @ away.T))
    assert float(rite._escaped(before, after)) == 3.0  # 4 → 1, and of the trace 4
    assert float(rite._escaped(before, before)) == 0.0


def test_a_direction_that_a_factor_lacks_is_zero_and_not_infinite() -> None:
    matrix = torch.randn(9, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 2, 3], [0, 1, 1]]
    )
    basis, inverse = (one[0] for one in rite._factored([matrix[None]])[0])
    torch.testing.assert_close(inverse @ basis.T, torch.linalg.pinv(matrix), atol=1e-4, rtol=1e-3)
    assert int((basis.norm(dim=0) > 0.5).sum()) == 2


SHAPES = [(16, 24), (8, 24), (16, 24), (8, 24), (12, 16)]


def descended(make: Callable[[list[Pair]], Any], dtype: torch.dtype) -> list[Pair]:
    """Pairs of several shapes after eight steps: Bs are zero at first, one once more; one A is held."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    pairs = [(Parameter(draw(4, n)), Parameter(torch.zeros(m, 4, dtype=dtype))) for m, n in SHAPES]
    pairs[1][0].requires_grad_(False)
    optimizer = make(pairs)
    for step in range(8):
        if step == 4:
            pairs[2][1].data.zero_()
        for a, b in pairs:
            gradient = draw(b.shape[0], a.shape[1])
            b.grad = gradient @ a.detach().T
            a.grad = b.detach().T @ gradient if a.requires_grad else None
        optimizer.step()
        optimizer.zero_grad()
    return pairs


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_batches_step_as_pairs_do_one_by_one(dtype: torch.dtype, within: float) -> None:
    options: dict[str, Any] = {"lr": 0.05, "clip": 0.5, "weight_decay": 0.01}
    batched = descended(lambda pairs: rite.LoraRite(pairs, **options), dtype)
    one_by_one = descended(lambda pairs: rite_by_pair.LoraRite(pairs, **options), dtype)
    other = descended(lambda pairs: rite_by_pair.LoraRite(pairs, **{**options, "weight_decay": 0.0}), dtype)

    def apart(first: list[Pair], second: list[Pair]) -> float:
        factors = zip([x for pair in first for x in pair], [x for pair in second for x in pair], strict=True)
        return max(float((x - y).detach().norm() / y.detach().norm()) for x, y in factors)

    assert apart(batched, one_by_one) < within
    assert apart(other, one_by_one) > 10 * within  # control: a decay of a thousandth shows


def test_a_steps_eigenproblems_do_not_grow_with_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    solve = torch.linalg.eigh

    def counted(problems: Tensor) -> Any:
        calls.append(len(problems))
        return solve(problems)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    descended(lambda pairs: rite.LoraRite(pairs, lr=0.05), torch.float32)
    # float64 for the factors and float32 for the moments, of all nine stepped factors, at each of eight steps
    assert calls == [9, 9] * 8


def test_lora_rite_starts_from_a_zero_b() -> None:
    a, b, batches = problem()
    pair = Parameter(a.clone()), Parameter(torch.zeros_like(b))
    optimizer = rite.LoraRite([pair], lr=0.05)
    inputs, wanted = batches[0]
    losses = []
    for step in range(30):
        loss = (((inputs @ pair[0].T @ pair[1].T) - wanted) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
        if step == 0:
            assert torch.equal(pair[0], a)
            assert bool((pair[1] != 0).all())
    assert losses[-1] < 0.85 * losses[0]


def test_a_frozen_a_is_read_and_not_stepped() -> None:
    a, b, batches = problem()
    pair = Parameter(a.clone(), requires_grad=False), Parameter(b.clone())
    optimizer = rite.LoraRite([pair], lr=0.05)
    (((batches[0][0] @ pair[0].T @ pair[1].T) - batches[0][1]) ** 2).mean().backward()
    optimizer.step()
    assert torch.equal(pair[0], a)
    assert not torch.equal(pair[1], b)


def stepped(make: Callable[[PeftModel], Any]) -> tuple[dict[str, Tensor], Any]:
    torch.manual_seed(0)
    model = get_peft_model(
        nn.Sequential(nn.Linear(INSIDE, OUTSIDE), nn.Linear(OUTSIDE, 4)),
        LoraConfig(r=RANK, target_modules=["0", "1"]),
    )
    assert isinstance(model, PeftModel)
    optimizer = make(model)
    for _ in range(5):
        model(torch.randn(6, INSIDE)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: p.detach() for name, p in model.named_parameters() if "lora_" in name}, optimizer


def ours(model: PeftModel, name: optimisers.Name, rate: float) -> Any:
    parameters = {key: p for key, p in model.named_parameters() if "lora_" in key}
    optimisers.freeze(parameters, name)
    optimizer = optimisers.make(parameters, name, weight_decay=0.0, clip=1.0, ratio=8.0)
    optimisers.set_rate(optimizer, rate)
    return optimizer


def test_lora_plus_is_pefts() -> None:
    mine, _ = stepped(lambda model: ours(model, "lora+", 1e-3))
    theirs, _ = stepped(
        lambda model: create_loraplus_optimizer(
            model, optimizer_cls=AdamW, lr=1e-3, loraplus_lr_ratio=8.0, loraplus_weight_decay=0.0, fused=True
        )
    )
    plain, _ = stepped(lambda model: ours(model, "adamw", 1e-3))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert any(not torch.equal(mine[name], plain[name]) for name in mine)


def test_lora_fa_leaves_every_a_and_trains_every_b() -> None:
    mine, optimizer = stepped(lambda model: ours(model, "lora-fa", 1e-3))
    both, _ = stepped(lambda model: ours(model, "adamw", 1e-3))
    start, _ = stepped(lambda model: ours(model, "adamw", 0.0))
    for name in mine:
        assert torch.equal(mine[name], start[name]) is ("lora_A" in name)
        assert not torch.equal(both[name], start[name])
    assert len(optimizer.state) == 2


@pytest.mark.parametrize("name", ["lora+", "lora-rite"])
def test_what_is_not_a_pair_of_factors_is_refused(name: optimisers.Name) -> None:
    for parameters in ({"vector": Parameter(torch.ones(2))}, {NAMES[0]: Parameter(torch.ones(2, 2))}):
        with pytest.raises(UsageError) as caught:
            optimisers.make(parameters, name, weight_decay=0.0, clip=1.0, ratio=1.0)
        assert caught.value.code == "ZD006"


def test_raw_gradients_are_clipped_but_for_lora_rite() -> None:
    for name, scaled in (("adamw", True), ("lora-rite", False)):
        parameters = {key: Parameter(torch.ones(2, 2)) for key in NAMES}
        optimizer = optimisers.make(parameters, name, weight_decay=0.0, clip=0.5, ratio=1.0)  # type: ignore[arg-type]
        for parameter in parameters.values():
            parameter.grad = torch.ones(2, 2)
        assert optimisers.clip_gradients(optimizer, 0.5) == pytest.approx(8**0.5)
        first = parameters[NAMES[0]].grad
        assert first is not None
        assert (float(first[0, 0]) < 0.2) is scaled
