"""Several tasks optimised side by side: each ends, resumes and comes out as it would alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from zoo.errors import UsageError, VerdictError
from zoo.training import step
from zoo.training.course import Optimised
from zoo.training.optimise import Recipe, Task, Together, optimise, optimise_together

POINTS = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5], [-2.0, 1.0]])
RECIPE = Recipe(
    steps=12, batch=3, micro_batch=2, learning_rate=0.1, warmup=3, check_every=2, save_every=2, patience=2
)
# the one that gets no better ends at step 8, the others go on
SCORES = {"a": range(99), "b": [0, 1, 2, -3, -4, *range(10, 99)], "c": range(99)}


class StopError(Exception):
    pass


class Bench:
    """Three vectors pulled to four points, each by a factor of its own."""

    def __init__(self, *, stop_at: int = 999) -> None:
        self.vectors = {name: Parameter(torch.zeros(2)) for name in SCORES}
        self.passes: list[dict[str, list[int]]] = []
        self.left = iter(range(stop_at))

    def loss(self, name: str, rows: Sequence[int]) -> Tensor:
        pull = 1.0 + list(SCORES).index(name)
        return pull * ((self.vectors[name] - POINTS[list(rows)]) ** 2).sum()

    def losses(self, parts: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
        if next(self.left, None) is None:
            raise StopError
        self.passes.append({name: list(rows) for name, rows in parts.items()})
        return {name: self.loss(name, rows) for name, rows in parts.items()}

    def task(self, name: str, loss: Callable[[Sequence[int]], Tensor] | None = None) -> Task:
        scores = {2 * look: score for look, score in enumerate(SCORES[name])}
        vector, taken = self.vectors[name], iter(sorted(scores))

        def score() -> float:
            # by how far it has come, so that a resumed run sees what an uninterrupted one does
            near = -float(((vector.detach() - POINTS) ** 2).sum())
            return float(scores[next(taken)]) if loss is None and name == "b" else near

        return Task(
            parameters={"vector": vector},
            samples=4,
            tokens=[1, 2, 1, 2],
            loss=loss or (lambda rows: self.loss(name, rows)),
            score=score,
            identity={"adapter": name},
            sizes=[4] * 4,
        )

    def run(
        self, names: Sequence[str] = tuple(SCORES), *, recipe: Recipe = RECIPE, work: Path | None = None
    ) -> dict[str, Optimised]:
        tasks = {name: self.task(name) for name in names}
        return optimise_together(tasks, recipe, Together(losses=self.losses), work=work)


def test_each_comes_out_as_alone_and_one_that_ends_drops_out() -> None:
    together = Bench()
    found = together.run()
    assert {name: len(done.losses) for name, done in found.items()} == {"a": 12, "b": 8, "c": 12}
    assert {tuple(part) for part in together.passes[:16]} == {("a", "b", "c")}
    assert {tuple(part) for part in together.passes[16:]} == {("a", "c")}
    for name, done in found.items():
        alone = Bench()
        assert optimise(alone.task(name), RECIPE) == done
        assert torch.equal(alone.vectors[name], together.vectors[name])
    assert found["a"].losses != found["c"].losses


@pytest.mark.parametrize("stop_at", [1, 5, 11, 17, 22])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path: Path, stop_at: int) -> None:
    recipe = replace(RECIPE, patience=0)
    expected, whole = Bench(), Bench()
    wanted = {name: optimise(expected.task(name, partial(expected.loss, name)), recipe) for name in SCORES}

    def run(bench: Bench) -> dict[str, Optimised]:
        tasks = {name: bench.task(name, partial(bench.loss, name)) for name in SCORES}
        return optimise_together(tasks, recipe, Together(losses=bench.losses), work=tmp_path / "work")

    with pytest.raises(StopError):
        run(Bench(stop_at=stop_at))
    assert run(whole) == wanted
    for name, vector in whole.vectors.items():
        assert torch.equal(vector, expected.vectors[name])
    assert len(whole.passes) == 24 - 4 * (stop_at // 4)  # of two passes a step, from the last even step on
    again = Bench()
    assert run(again) == wanted  # the end is kept as well: nothing is optimised twice
    assert not again.passes


def test_an_unfinished_run_of_other_tasks_is_refused(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with pytest.raises(StopError):
        Bench(stop_at=9).run(work=work)
    with pytest.raises(UsageError, match="unfinished run of a, b, c") as caught:
        Bench().run(["a", "b"], work=work)
    assert caught.value.code == "ZD004"


def test_passes_are_bounded_by_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, patience=0)
    whole = Bench()
    expected = whole.run(recipe=recipe)
    monkeypatch.setattr(step, "PASS_TOKENS", 20)  # two adapters' two samples of four tokens
    bounded = Bench()
    assert bounded.run(recipe=recipe) == expected
    assert {tuple(part) for part in bounded.passes} == {("a", "b"), ("c",), ("a", "b", "c")}
    assert max(sum(map(len, part.values())) for part in bounded.passes) == 4


def test_what_is_wrong_names_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.vectors["b"].data.fill_(float("nan"))
    with pytest.raises(VerdictError, match="the loss of b"):
        bench.run()
