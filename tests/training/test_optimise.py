import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from zoo.errors import UsageError, VerdictError
from zoo.training import checkpoint, optimisers
from zoo.training.course import Look, Optimised
from zoo.training.deal import Deal
from zoo.training.optimise import Recipe, Task, optimise

POINTS = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5], [-2.0, 1.0]])
RECIPE = Recipe(steps=12, batch=3, micro_batch=3, learning_rate=0.1, warmup=3, check_every=4, save_every=2)


def fit(recipe: Recipe = RECIPE, work: Path | None = None, **changes: Any) -> tuple[Optimised, Tensor]:
    """Pulls one vector to four points; `changes` replace the task's parts."""
    vector = Parameter(torch.zeros(2))

    def loss(rows: Sequence[int]) -> Tensor:
        return ((vector - POINTS[list(rows)]) ** 2).sum()

    parts: dict[str, Any] = {
        "parameters": {"vector": vector},
        "samples": 4,
        "tokens": [1, 1, 1, 1],
        "loss": loss,
        "score": lambda: -float(((vector.detach() - POINTS) ** 2).sum()),
        "identity": {"data": "a"},
    }
    return optimise(Task(**{**parts, **changes}), recipe, work=work), vector.detach()


def test_every_epoch_is_a_permutation_and_a_function_of_the_seed() -> None:
    recipe, deal = Recipe(steps=9, batch=4), Deal.plain(10)
    drawn = [row for step in range(1, 6) for row, _ in recipe.rows(step, deal)]
    assert sorted(drawn[:10]) == list(range(10)) == sorted(drawn[10:])
    assert drawn[:10] != drawn[10:]
    assert replace(recipe, seed=1).rows(1, deal) != recipe.rows(1, deal)


def test_the_rate_warms_up_and_decays_and_never_stands_still() -> None:
    rates = [RECIPE.rate(step) for step in range(1, 13)]
    assert rates[:3] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] > 0
    assert replace(RECIPE, decay="constant").rate(12) == 0.1


def test_micro_batches_are_the_whole_batch() -> None:
    whole, at_once = fit()
    parts, in_parts = fit(replace(RECIPE, micro_batch=2))
    assert list(parts.losses) == pytest.approx(list(whole.losses), rel=1e-6)
    torch.testing.assert_close(in_parts, at_once)


def test_the_best_weights_are_kept_not_the_last() -> None:
    scores = iter([0.0, 5.0, 1.0, 2.0])  # before, and at steps 4, 8 and 12
    seen: list[Tensor] = []
    vector = Parameter(torch.zeros(2))

    def score() -> float:
        seen.append(vector.detach().clone())
        return next(scores)

    done, _ = fit(
        parameters={"vector": vector},
        loss=lambda rows: ((vector - POINTS[list(rows)]) ** 2).sum(),
        score=score,
    )
    assert (done.best_step, done.best_score) == (4, 5.0)
    assert torch.equal(vector.detach(), seen[1])
    assert not torch.equal(vector.detach(), seen[3])


def test_no_gradient_at_the_first_step_is_an_error() -> None:
    idle = Parameter(torch.ones(2))
    with pytest.raises(VerdictError) as caught:
        fit(parameters={"idle": idle}, loss=lambda rows: (idle * 0.0).sum() + 1.0)
    assert caught.value.code == "ZD005"
    assert "zero" in caught.value.message


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error(bad: float) -> None:
    lost = Parameter(torch.ones(2))
    with pytest.raises(VerdictError) as caught:
        fit(parameters={"lost": lost}, loss=lambda rows: (lost * bad).sum())
    assert caught.value.code == "ZD005"


class StopError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 2, 3, 7, 11])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path: Path, stop_at: int) -> None:
    expected, wanted = fit()
    vector = Parameter(torch.zeros(2))
    calls = 0

    def loss(rows: Sequence[int]) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > stop_at:
            raise StopError
        return ((vector - POINTS[list(rows)]) ** 2).sum()

    def score() -> float:
        return -float(((vector.detach() - POINTS) ** 2).sum())

    with pytest.raises(StopError):
        fit(work=tmp_path / "work", parameters={"vector": vector}, loss=loss, score=score)
    again, reached = fit(work=tmp_path / "work")
    assert again == expected
    assert torch.equal(reached, wanted)


@pytest.mark.parametrize(
    ("recipe", "identity", "key"),
    [(replace(RECIPE, seed=1), {"data": "a"}, "seed"), (RECIPE, {"data": "b"}, "data")],
)
def test_a_run_with_other_settings_is_refused_and_says_which(
    tmp_path: Path, recipe: Recipe, identity: dict[str, str], key: str
) -> None:
    fit(work=tmp_path / "work")
    with pytest.raises(UsageError) as caught:
        fit(recipe, tmp_path / "work", identity=identity)
    assert caught.value.code == "ZD004"
    assert key in caught.value.message


def test_patience_ends_a_run_after_so_many_looks_without_a_better_score() -> None:
    scores = iter([0.0, 5.0, 1.0, 2.0, 9.0])
    recipe = replace(RECIPE, steps=40, check_every=2, patience=2)
    done, _ = fit(recipe, score=lambda: next(scores))
    assert (len(done.losses), done.best_step) == (6, 2)
    assert [step for step, _ in done.looks] == [0, 2, 4, 6]

    scores = iter([0.0, 5.0, 1.0, 9.0, 1.0, 1.0, 99.0])
    longer, _ = fit(recipe, score=lambda: next(scores))
    assert (len(longer.losses), longer.best_step) == (10, 6)


def test_equal_first_numbers_are_decided_by_the_next_and_every_value_is_kept() -> None:
    looks = iter([(0.5, -3.0), (0.5, -1.0), (0.5, -2.0), (0.4, 0.0)])
    done, _ = fit(
        score=lambda: Look(rank=(pair := next(looks)), values={"accuracy": pair[0], "loss": -pair[1]})
    )
    assert (done.best_step, done.best_score) == (4, 0.5)
    assert done.looks[2] == (8, {"accuracy": 0.5, "loss": 2.0})


FACTORS = torch.Generator().manual_seed(3)
INPUTS, WANTED = torch.randn(6, 7, generator=FACTORS), torch.randn(6, 5, generator=FACTORS)


def fit_factors(
    optimizer: optimisers.Name, work: Path | None = None, stop_at: int = 99
) -> tuple[Optimised, list[Tensor]]:
    """A LoRA of rank 2, fitted to six points; stops before its loss is asked for the `stop_at`th time."""
    generator = torch.Generator().manual_seed(0)
    a, b = Parameter(torch.randn(2, 7, generator=generator)), Parameter(torch.zeros(5, 2))
    left = iter(range(stop_at))

    def loss(rows: Sequence[int]) -> Tensor:
        if next(left, None) is None:
            raise StopError
        return ((INPUTS[list(rows)] @ a.T @ b.T - WANTED[list(rows)]) ** 2).sum()

    def score() -> float:
        return -float(((INPUTS @ a.T @ b.T - WANTED) ** 2).sum().detach())

    task = Task(
        parameters={"x.lora_A.default.weight": a, "x.lora_B.default.weight": b},
        samples=6, tokens=[1] * 6, loss=loss, score=score, identity={},
    )  # fmt: skip
    done = optimise(
        task, replace(RECIPE, optimizer=optimizer, steps=9, learning_rate=0.02, ratio=4.0), work=work
    )
    return done, [a.detach(), b.detach()]


@pytest.mark.parametrize("optimizer", ["adamw", "lora+", "lora-fa", "lora-rite"])
@pytest.mark.parametrize("stop_at", [3, 7])
def test_every_optimiser_resumes_exactly(tmp_path: Path, optimizer: optimisers.Name, stop_at: int) -> None:
    expected, wanted = fit_factors(optimizer)
    assert expected.best_score > -float((WANTED**2).sum())
    with pytest.raises(StopError):
        fit_factors(optimizer, tmp_path / "work", stop_at)
    again, reached = fit_factors(optimizer, tmp_path / "work")
    assert again == expected
    assert all(torch.equal(one, other) for one, other in zip(reached, wanted, strict=True))


def test_control_a_resume_without_the_optimisers_state_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = fit_factors("lora-rite")
    with pytest.raises(StopError):
        fit_factors("lora-rite", tmp_path / "work", 7)
    load = checkpoint.load

    def forgetful(*args: Any, optimizer: Any, **more: Any) -> Any:
        found = load(*args, optimizer=optimizer, **more)
        optimizer.state.clear()
        return found

    monkeypatch.setattr("zoo.training.checkpoint.load", forgetful)
    assert fit_factors("lora-rite", tmp_path / "work")[0].losses != expected.losses
