from collections.abc import Sequence

import pytest
import torch

from zoo.errors import DefectError, UndecidedError
from zoo.inference.decoding import Decoding

WORDS = 6
END = 5


class Model:
    """The most likely next token is the last one plus one; remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, ids: Sequence[int]) -> torch.Tensor:
        self.calls.append(list(ids))
        logits = torch.arange(WORDS, dtype=torch.bfloat16) / 8
        logits[(ids[-1] + 1) % WORDS] = 10.0
        return logits


class Only:
    """Allows one set of ids a step; is finished after the last."""

    def __init__(self, *steps: set[int] | None) -> None:
        self.steps = list(steps)
        self.taken: list[int] = []

    @property
    def finished(self) -> bool:
        return len(self.taken) == len(self.steps)

    def allowed(self) -> torch.Tensor | None:
        wanted = self.steps[len(self.taken)]
        return None if wanted is None else torch.tensor([id in wanted for id in range(WORDS)])

    def advance(self, token: int) -> None:
        self.taken.append(token)


def test_greedy_decoding_ends_at_an_end_id_or_at_the_limit() -> None:
    model, heard = Model(), list[int]()
    found = Decoding(max_new_tokens=9, end_ids=[END], on_token=heard.append).run([0, 1], model)
    assert (found.ids, found.stopped, found.top) == ([2, 3, 4], "end", [[], [], []])
    assert heard == [2, 3, 4]
    assert model.calls == [[0, 1], [2], [3], [4]]
    found = Decoding(max_new_tokens=2, end_ids=[END]).run([0], Model())
    assert (found.ids, found.stopped) == ([1, 2], "length")


def test_a_constraint_is_kept_and_stops_when_finished() -> None:
    constraint = Only({3, 4}, None, {0, 1})
    found = Decoding(max_new_tokens=9, end_ids=[END], constraint=constraint).run([0], Model())
    assert (found.ids, found.stopped) == ([4], "end")  # 4 is likelier than 3; then the end id
    assert constraint.taken == [4]
    constraint = Only({2, 4}, {0, 1}, {0, 2})
    found = Decoding(max_new_tokens=9, constraint=constraint).run([1], Model())
    assert (found.ids, found.stopped) == ([2, 1, 2], "constraint")


def test_tokens_without_a_choice_are_run_together_with_the_next() -> None:
    steps: list[set[int] | None] = [{1, 2}, {4}, {0}, {3}, {1, 5}]
    model = Model()
    found = Decoding(max_new_tokens=9, constraint=Only(*steps)).run([0], model)
    assert found.ids == [1, 4, 0, 3, 5]
    assert model.calls == [[0], [1, 4, 0, 3]]
    asked = Model()
    scored = Decoding(max_new_tokens=9, constraint=Only(*steps), top_logprobs=1).run([0], asked)
    assert scored.ids == found.ids
    assert len(asked.calls) == 2
    assert scored.top[1:4] == [[(4, 0.0)], [(0, 0.0)], [(3, 0.0)]]  # certain


def test_log_probabilities_are_those_among_what_is_allowed() -> None:
    free = Decoding(max_new_tokens=1, top_logprobs=2).run([0], Model())
    wanted = Model()([0]).float().log_softmax(-1)
    assert [id for id, _ in free.top[0]] == [1, 5]
    assert [value for _, value in free.top[0]] == pytest.approx(wanted[[1, 5]].tolist())
    found = Decoding(max_new_tokens=1, constraint=Only({0, 3, 4}), top_logprobs=2).run([0], Model())
    among = Model()([0]).float()[[0, 3, 4]].log_softmax(-1)
    assert found.ids == [4]
    assert [id for id, _ in found.top[0]] == [4, 3]
    assert [value for _, value in found.top[0]] == pytest.approx(among[[2, 1]].tolist())
    all_of_them = Decoding(max_new_tokens=1, constraint=Only({0, 3}), top_logprobs=5).run([0], Model())
    assert [id for id, _ in all_of_them.top[0]] == [3, 0]  # what is not allowed has no place there


def test_sampling_follows_the_temperature() -> None:
    torch.manual_seed(0)
    flat = [Decoding(max_new_tokens=1, temperature=100.0).run([0], Model()).ids[0] for _ in range(60)]
    sharp = [Decoding(max_new_tokens=1, temperature=0.1).run([0], Model()).ids[0] for _ in range(60)]
    assert set(flat) == set(range(WORDS))
    assert set(sharp) == {1}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_told(temperature: float) -> None:
    with pytest.raises(UndecidedError, match="not numbers"):
        Decoding(max_new_tokens=1, temperature=temperature).run([0], lambda _: torch.full((4,), torch.nan))


def test_a_constraint_that_allows_nothing_is_told() -> None:
    with pytest.raises(DefectError, match="allows no token"):
        Decoding(max_new_tokens=1, constraint=Only(set())).run([0], Model())
