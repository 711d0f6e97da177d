"""Products with base weights in blocks, against the same in one piece."""

import os

import pytest
import torch

from zoo.converters import tall
from zoo.converters.tall import gram, smallest, times

SHAPES = [(40, 30), (30, 40), (17, 17)]


def weight(shape: tuple[int, int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tall, "ROWS", 7)
    monkeypatch.setattr(tall, "_SUM", 5)
    monkeypatch.setattr(tall, "_WIDE", 11)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-14), (torch.bfloat16, 1e-6)], ids=str)
def test_thin_products_are_those_of_the_whole(
    shape: tuple[int, int], dtype: torch.dtype, bound: float
) -> None:
    whole, thin = weight(shape, dtype), torch.randn(shape[1], 3, dtype=torch.float64)
    wanted = whole.double() @ thin
    found = times(whole, thin)
    assert found.dtype == torch.float64
    assert float((found - wanted).norm() / wanted.norm()) < bound
    turned = times(whole.T, torch.ones(shape[0], 1, dtype=torch.float64))  # a view with other strides
    assert torch.allclose(turned, whole.double().T.sum(1, keepdim=True), atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gram_matrix_is_that_of_the_whole(shape: tuple[int, int]) -> None:
    whole = weight(shape)
    assert torch.allclose(gram(whole), whole.double() @ whole.double().T, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_smallest_singular_values_part_is_that_of_a_whole_decomposition(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    whole, count = weight(shape, dtype), 4
    u, s, v = torch.linalg.svd(whole.double(), full_matrices=False)
    wanted = (u[:, -count:] * s[-count:]) @ v[-count:]
    left, right = smallest(whole, count)
    assert (left.shape, right.shape) == ((shape[0], count), (count, shape[1]))
    assert float((left @ right - wanted).norm() / wanted.norm()) < 1e-9
    largest = (u[:, :count] * s[:count]) @ v[:count]
    assert float((left @ right - largest).norm() / largest.norm()) > 0.5


def test_results_are_the_same_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, thin = weight((61, 45), torch.bfloat16), torch.randn(45, 3, dtype=torch.float64)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        found.append((times(whole, thin), gram(whole)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
