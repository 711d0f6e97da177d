"""Truncation against the best approximation of the dense update, and its error against the dense one."""

import math
from collections.abc import Mapping

import pytest
import torch

from zoo.converters.rank import grow
from zoo.converters.truncate import Cut, truncate
from zoo.errors import UsageError

Weights = dict[str, torch.Tensor]
HEAD = "base_model.model.model.layers."


def weights(dtype: torch.dtype = torch.float64) -> Weights:
    """Two modules: one with a spectrum of 8, 4, 2, 1, one flat."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for name, s in (("0.q_proj", [8.0, 4.0, 2.0, 1.0]), ("1.k_proj", [1.0] * 4)):
        u = torch.linalg.qr(torch.randn(20, 4, generator=generator, dtype=torch.float64)).Q
        v = torch.linalg.qr(torch.randn(32, 4, generator=generator, dtype=torch.float64)).Q
        made[f"{HEAD}{name}.lora_A.weight"] = v.T.contiguous().to(dtype)
        made[f"{HEAD}{name}.lora_B.weight"] = (u * torch.tensor(s)).to(dtype)
    return made


def dense(found: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    return found[f"{HEAD}{name}.lora_B.weight"].double() @ found[f"{HEAD}{name}.lora_A.weight"].double()


def test_a_rank_keeps_the_largest_and_says_what_is_lost() -> None:
    source = weights()
    cut = truncate(source, Cut(rank=2))
    assert {tensor.shape for tensor in cut.weights.values()} == {(2, 32), (20, 2)}
    lost = {}
    for name in ("0.q_proj", "1.k_proj"):
        whole = dense(source, name)
        u, s, vt = torch.linalg.svd(whole)
        best = (u[:, :2] * s[:2]) @ vt[:2]
        lost[name] = float((dense(cut.weights, name) - whole).norm())
        assert lost[name] == pytest.approx(float((best - whole).norm()))  # Eckart and Young: none is nearer
        assert cut.errors[HEAD + name] == pytest.approx(lost[name] / float(whole.norm()))
    assert cut.errors[f"{HEAD}0.q_proj"] == pytest.approx(math.sqrt(5 / 85))
    assert cut.errors[f"{HEAD}1.k_proj"] == pytest.approx(math.sqrt(2 / 4))
    assert cut.error == pytest.approx(math.sqrt(7 / 89))


@pytest.mark.parametrize(
    ("energy", "ranks"),
    [(0.9, (2, 4)), (0.75, (1, 3)), (0.94, (2, 4)), (0.95, (3, 4)), (1.0, (4, 4)), (0.01, (1, 1))],
)
def test_energy_is_met_in_every_module_with_as_few_as_can_be(energy: float, ranks: tuple[int, int]) -> None:
    cut = truncate(weights(), Cut(energy=energy))
    assert tuple(cut.ranks.values()) == ranks
    assert {tensor.shape for tensor in cut.weights.values()} == {(max(ranks), 32), (20, max(ranks))}
    assert all(error**2 <= 1 - energy + 1e-12 for error in cut.errors.values())


def test_what_was_grown_is_truncated_back_without_a_loss() -> None:
    source = weights()
    grown = grow(source, 9)
    assert torch.equal(dense(grown, "0.q_proj"), dense(source, "0.q_proj"))
    back = truncate(grown, Cut(energy=1.0))
    assert set(back.ranks.values()) == {4}
    assert back.error < 1e-14


def test_rounding_of_the_stored_dtype_is_in_the_error() -> None:
    cut = truncate(weights(torch.bfloat16), Cut(rank=4))
    assert {tensor.dtype for tensor in cut.weights.values()} == {torch.bfloat16}
    assert 1e-4 < cut.error < 5e-3
    assert truncate(weights(), Cut(rank=4)).error < 1e-14


def test_a_zero_module_stays_zero() -> None:
    source = weights()
    source[f"{HEAD}0.q_proj.lora_B.weight"] *= 0
    cut = truncate(source, Cut(rank=1))
    assert not dense(cut.weights, "0.q_proj").any()
    assert cut.errors[f"{HEAD}0.q_proj"] == 0.0


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("8", Cut(rank=8)), ("0.99", Cut(energy=0.99)), ("99%", Cut(energy=0.99)), ("1.0", Cut(energy=1.0))],
)
def test_what_can_be_asked_for(text: str, wanted: Cut) -> None:
    assert Cut.parse(text) == wanted


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "", "%", "much", "0%", "1e400"])
def test_what_cannot(text: str) -> None:
    with pytest.raises(UsageError):
        Cut.parse(text)


def test_a_rank_above_the_own_is_no_truncation() -> None:
    with pytest.raises(UsageError, match="rank 4"):
        truncate(weights(), Cut(rank=5))
