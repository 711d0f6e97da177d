"""Eigenvectors of the smallest eigenvalues against a whole decomposition."""

import pytest
import torch
from torch import Tensor

from zoo.converters import lowest as module
from zoo.converters.lowest import lowest

COUNT = 5


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", 50)
    monkeypatch.setattr(module, "MORE", 4)


def wide(rows: int, columns: int) -> Tensor:
    """A Gram matrix whose smallest eigenvalues lie close together where there are many more columns."""
    weight = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return weight @ weight.T


def whole(matrix: Tensor) -> Tensor:
    return torch.linalg.eigh(matrix).eigenvectors


def projector(vectors: Tensor) -> Tensor:
    return vectors @ vectors.T


@pytest.mark.parametrize(("rows", "columns"), [(300, 300), (300, 1200), (80, 100)])
def test_they_are_those_of_a_whole_decomposition(rows: int, columns: int) -> None:
    matrix = wide(rows, columns)
    found = lowest(matrix, COUNT)
    wanted, others = whole(matrix)[:, :COUNT], whole(matrix)[:, 1 : COUNT + 1]
    assert found.shape == (rows, COUNT)
    assert torch.allclose(projector(found), projector(wanted), atol=1e-8)
    assert not torch.allclose(projector(found), projector(others), atol=1e-2)
    values = torch.einsum("nk,nm,mk->k", found, matrix, found)
    assert torch.equal(values, values.sort().values)


def test_they_are_searched_for_and_not_taken_from_a_whole_decomposition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    plain = torch.linalg.eigh

    def counted(given: Tensor) -> object:
        sizes.append(len(given))
        return plain(given)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    lowest(wide(300, 400), COUNT)
    assert sizes
    assert max(sizes) < 300


@pytest.mark.parametrize("fault", ["singular", "unsettled", "small", "equal"])
def test_what_cannot_be_searched_is_decomposed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = wide(300, 400)
    if fault == "singular":  # more vectors of nothing than are asked for: any of them will do
        matrix = wide(300, 200)
    elif fault == "unsettled":
        monkeypatch.setattr(module, "FIRST", 2)
        monkeypatch.setattr(module, "MOST", 2)
    elif fault == "small":
        matrix = wide(50, 80)
    else:
        matrix = torch.eye(300, dtype=torch.float64)
    found = lowest(matrix, COUNT)
    assert torch.allclose(found.T @ found, torch.eye(COUNT, dtype=torch.float64), atol=1e-10)
    left = (matrix @ found).norm() / matrix.norm()
    assert float(left) <= float((matrix @ whole(matrix)[:, :COUNT]).norm() / matrix.norm()) + 1e-9


def test_the_same_every_time() -> None:
    matrix = wide(300, 900)
    assert torch.equal(lowest(matrix, COUNT), lowest(matrix.clone(), COUNT))
