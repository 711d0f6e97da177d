"""Products with whole base weights, block by block: a wider copy of them is never made.

The blocks are the same on every machine and each is computed on one thread, so that results do not depend
on how many threads there are; several blocks at once use what cores there are.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from zoo.converters.canonical import one_thread
from zoo.converters.lowest import lowest

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 512  # of a block of a result
_SUM = 1024  # terms that are added in float32 before their sum is added in float64
_WIDE = 2048  # columns of a block of a Gram matrix's sum
Made = TypeVar("Made")


def times(weight: "Tensor", thin: "Tensor", *, exact: bool = False) -> "Tensor":
    """`weight @ thin`, float64 `[out, k]`.

    Of weights stored in 16 bits it is right to some 3e-7, several times faster than in float64; of wider ones
    it is made in float64.

    Args:
        weight: of any float dtype, `[out, in]`.
        thin: float64 `[in, k]`.
        exact: in float64 whatever the weight: for products of which little is left, be it that their terms
            cancel, or that something nearly equal is taken away.
    """
    import torch

    narrow = weight.dtype.itemsize == 2 and not exact
    dtype, terms = (torch.float32, _SUM) if narrow else (torch.float64, max(weight.shape[1], 1))
    factor = thin.to(dtype)
    made = torch.zeros(weight.shape[0], thin.shape[1], dtype=torch.float64)

    def block(first: int) -> None:
        rows = slice(first, first + ROWS)
        for left in range(0, weight.shape[1], terms):
            part = slice(left, left + terms)
            made[rows] += weight[rows, part].to(dtype) @ factor[part]

    _each(block, range(0, weight.shape[0], ROWS))
    return made


def gram(weight: "Tensor") -> "Tensor":
    """`weight @ weight.T` in float64, `[out, out]`.

    Args:
        weight: of any float dtype, `[out, in]`.
    """
    import torch

    out, wide = weight.shape
    made = torch.zeros(out, out, dtype=torch.float64)
    for left in range(0, wide, _WIDE):
        part = weight[:, left : left + _WIDE].double()

        def block(first: int, part: "Tensor" = part) -> None:  # of the lower triangle
            last = min(first + ROWS, out)
            made[first:last, :last].addmm_(part[first:last], part[:last].T)

        _each(block, range(0, out, ROWS))
    return made.tril_() + made.tril(-1).T


def smallest(weight: "Tensor", count: int) -> "tuple[Tensor, Tensor]":
    """A matrix's part in its smallest singular values: float64 factors `[out, count]` and `[count, in]`.

    From eigenvectors of the smaller Gram matrix, and the matrix projected on them: what squaring costs
    in precision is in the vectors alone, and there as little as the gap to the next singular value allows.

    Args:
        weight: of any float dtype, `[out, in]`.
        count: of singular values, at most as many as there are.
    """
    if weight.shape[0] > weight.shape[1]:
        left, right = smallest(weight.T, count)
        return right.T, left.T
    with one_thread():
        vectors = lowest(gram(weight), count)
    return vectors, times(weight.T, vectors, exact=True).T


def _each(work: Callable[[int], Made], items: Iterable[int]) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with one_thread(), ThreadPoolExecutor(max_workers=cores) as pool:
        for _ in pool.map(work, items):
            pass
