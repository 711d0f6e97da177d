"""The short way for plain factors: as exact as the long one, and it sees what the long one sees."""

import math

import pytest
import torch

from zoo.converters.exactness import fold_error, normal
from zoo.converters.forms import LowRank
from zoo.converters.survey import survey

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def plain(dtype: torch.dtype, scale: float, *, rank: int = 5) -> LowRank:
    generator = torch.Generator().manual_seed(0)
    return LowRank(
        a=torch.randn(rank, 40, generator=generator).to(dtype),
        b=torch.randn(30, rank, generator=generator).to(dtype),
        scale=scale,
    )


def dense_error(low: LowRank, a: torch.Tensor, b: torch.Tensor) -> float:
    wanted = low.scale * low.b.double() @ low.a.double()
    return float((b.double() @ a.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 2.0, 0.25, -0.5, 0.7, 3.0])
@pytest.mark.parametrize("rank", [5, 8])
def test_the_stated_error_is_the_dense_one(dtype: torch.dtype, scale: float, rank: int) -> None:
    low = plain(dtype, scale)
    for stored in (dtype, torch.float32):
        a, b = normal(low, rank, stored)
        assert (a.dtype, b.dtype) == (stored, stored)
        assert (a.shape, b.shape) == ((rank, 40), (30, rank))
        found, wanted = fold_error(low, a, b), dense_error(low, a, b)
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-15)
        if stored == dtype and scale in (1.0, 2.0, 0.25, -0.5):
            assert found == 0.0


@pytest.mark.parametrize("scale", [1.0, 2.0, 0.7])
@pytest.mark.parametrize("wrong", ["a", "b", "scale", "padding", "sign"])
def test_what_is_wrong_is_seen(scale: float, wrong: str) -> None:
    low = plain(torch.bfloat16, scale)
    a, b = (tensor.clone() for tensor in normal(low, 6, torch.float32))
    match wrong:
        case "a":
            a[0, 0] += 0.5
        case "b":
            b[0, 0] += 0.5
        case "scale":
            b *= 1.001
        case "padding":
            a[5], b[:, 5] = 1e-2, 1e-2
        case _:
            a = -a
    assert fold_error(low, a, b) == pytest.approx(dense_error(low, a, b), rel=1e-6)
    assert fold_error(low, a, b) > 1e-5
    assert math.isnan(fold_error(low, a, b * math.nan)) or fold_error(low, a, b * math.nan) == math.inf


def test_the_source_is_left_as_it_was() -> None:
    low = plain(torch.float64, 0.7)
    a, b = normal(low, 5, torch.float64)
    before = b.clone()
    fold_error(low, a, b)
    assert torch.equal(b, before)


def test_factors_that_nearly_cancel_are_measured_too() -> None:
    generator = torch.Generator().manual_seed(0)
    row, column = torch.randn(1, 40, generator=generator), torch.randn(30, 1, generator=generator)
    a = torch.cat([row, row + 1e-6 * torch.randn(1, 40, generator=generator)]).double()
    b = torch.cat([column, -column], dim=1).double()
    low = LowRank(a=a, b=b, scale=0.7)
    made = normal(low, 2, torch.float32)
    assert fold_error(low, *made) == pytest.approx(dense_error(low, *made), rel=1e-3)


@pytest.mark.parametrize(("largest", "kept"), [(1.0, "bfloat16"), (3e38, "float32")])
def test_a_scale_that_leaves_the_exponents_range_takes_a_wider_dtype(largest: float, kept: str) -> None:
    from types import SimpleNamespace

    low = plain(torch.bfloat16, 4.0)
    low.b[0, 0] = largest
    found = survey(SimpleNamespace(modules={"one": lambda: low}))  # type: ignore[arg-type]
    assert str(found.dtype) == f"torch.{kept}"
