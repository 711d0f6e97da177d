"""Rows in one kernel call, the kernel written out, against the same rows one after another."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.engine import build
from tests.training.row_kernel import DENSE
from zoo.training import packed, ragged
from zoo.training.exact import Row, Rule, joined, run_rows
from zoo.training.prefix import PrefixStore, answer_logits
from zoo.training.ragged import Ragged

HEADS, KV_HEADS, HEAD = 4, 2, 8
CPU = torch.device("cpu")


def piece(tokens: int, layers: int = 2) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(KV_HEADS, tokens, HEAD), torch.randn(KV_HEADS, tokens, HEAD)) for _ in range(layers)]


def line(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(heads, tokens, HEAD) for heads in (HEADS, KV_HEADS, KV_HEADS))  # type: ignore[return-value]


@pytest.fixture
def rows() -> list[Row]:
    """A long and a short prefix, one of two pieces, one that two rows continue, none at all."""
    torch.manual_seed(0)
    shared, other = piece(7), piece(30)
    befores = [(shared,), (shared, piece(4)), (), (other,), (other,), ()]
    sizes, found, begin = (3, 1, 5, 2, 4, 1), [], 0
    for pieces, size in zip(befores, sizes, strict=True):
        found.append(Row(begin=begin, end=begin + size, pieces=pieces))
        begin += size
    return found


def test_all_rows_at_once_are_as_one_after_another(rows: list[Row]) -> None:
    query, key, value = line(rows[-1].end)
    rule = Rule(scale=0.3)
    made = Ragged.of(rows, CPU, DENSE)
    assert made is not None
    wanted = [run_rows(query, key, value, rows, rule, layer) for layer in (0, 1)]
    found = [made.attend(query, key, value, rule, layer) for layer in (0, 1)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted, strict=True))
    assert not torch.allclose(found[0], wanted[1], atol=1e-2)  # another layer's prefixes would show


def test_rows_that_were_taken_as_one_do_not_see_one_another(rows: list[Row]) -> None:
    together, order = joined(rows)
    assert order
    assert any(row.runs for row in together)
    query, key, value = (x.index_select(1, torch.tensor(order)) for x in line(rows[-1].end))
    made = Ragged.of(together, CPU, DENSE)
    assert made is not None
    wanted = run_rows(query, key, value, together, Rule(scale=0.3), 0)
    assert torch.allclose(made.attend(query, key, value, Rule(scale=0.3), 0), wanted, atol=1e-6)


def test_what_would_be_copied_too_often_is_read_where_it_lies(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sum(row.end - row.begin + row.before for row in rows)
    monkeypatch.setattr(ragged, "KEYS", seen)
    assert Ragged.of(rows, CPU, DENSE) is not None
    monkeypatch.setattr(ragged, "KEYS", seen - 1)
    assert Ragged.of(rows, CPU, DENSE) is None


def test_layers_that_the_kernel_does_not_know_are_left_to_others() -> None:
    half, full = torch.zeros(HEADS, 3, HEAD, dtype=torch.bfloat16), torch.zeros(HEADS, 3, HEAD)
    assert Ragged.serves(half, half, Rule(scale=1.0))
    assert not Ragged.serves(full, full, Rule(scale=1.0))
    assert not Ragged.serves(half, half, Rule(scale=1.0, window=4))
    assert not Ragged.serves(half, half, Rule(scale=1.0, softcap=4.0))
    assert not Ragged.serves(half, half[..., :4], Rule(scale=1.0))  # values of other heads than the keys'


class Called:
    """The kernel written out, and how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        plain = Ragged.attend

        def attend(made: Ragged, *given: object) -> Tensor:
            self.times += 1
            return plain(made, *given)  # type: ignore[arg-type]

        made = Ragged.of
        monkeypatch.setattr(Ragged, "attend", attend)
        monkeypatch.setattr(Ragged, "serves", staticmethod(lambda *_: True))
        monkeypatch.setattr(Ragged, "of", staticmethod(lambda rows, device: made(rows, device, DENSE)))
        monkeypatch.setattr(packed, "serves_rows", lambda device: True)


def test_prefixes_and_answers_of_a_model_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = build(tmp_path, "llama")
    every = range(len(samples))
    with torch.no_grad():
        wanted = torch.cat(answer_logits(PrefixStore(model, samples), every))
        called = Called(monkeypatch)
        found = torch.cat(answer_logits(PrefixStore(model, samples), every))
    assert called.times > 2  # prefixes, then answers
    assert torch.allclose(found, wanted, atol=1e-4)


def test_a_pass_with_gradients_has_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = build(tmp_path, "llama")
    store = PrefixStore(model, samples)
    store.fill()
    called = Called(monkeypatch)
    answer_logits(store, [0, 1])
    assert not called.times
