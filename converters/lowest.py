"""Eigenvectors of the smallest eigenvalues of a large symmetric matrix, without its other eigenvectors.

A whole decomposition of 4096 columns takes half a minute, of which all but a few vectors are thrown away.
Source: block Krylov spaces, Golub and Underwood 1977, The block Lanczos method for computing eigenvalues; of
the inverse, shifted to just below the smallest eigenvalue, Ericsson and Ruhe 1980, The spectral
transformation Lanczos method. Blocks are made orthogonal to all before them, twice.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = 1024  # columns up to which everything is decomposed
MORE = 8  # vectors of a block beyond those that are wanted
FIRST, MOST = 8, 60  # blocks of the space before the shift, and after it at most
LOOK = 2  # blocks between two looks
EXACT = 1e-11  # residual of an inverse's eigenvector, as a share of its eigenvalue


def lowest(matrix: "Tensor", count: int) -> "Tensor":
    """Orthonormal eigenvectors of the smallest eigenvalues, in ascending order: float64 `[n, count]`.

    Args:
        matrix: float64 `[n, n]`, symmetric, positive semidefinite.
        count: of vectors, at most n.
    """
    import torch

    found = _searched(matrix, count) if len(matrix) > max(WHOLE, 8 * (count + MORE)) else None
    return torch.linalg.eigh(matrix).eigenvectors[:, :count].clone() if found is None else found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ritz:
    """Approximate eigenvectors of an inverse, those of its largest eigenvalues first.

    Attributes:
        vectors: `[n, k]`, orthonormal.
        values: `[k]`, of the inverse.
        residuals: `[k]`, each as a share of its value.
    """

    vectors: "Tensor"
    values: "Tensor"
    residuals: "Tensor"


def _searched(matrix: "Tensor", count: int) -> "Tensor | None":
    """The vectors, or None where the matrix is singular to rounding, or they do not settle."""
    import torch

    size = len(matrix)
    numbers = torch.Generator().manual_seed(0)
    start = torch.randn(size, count + MORE, dtype=torch.float64, generator=numbers)
    rough = _krylov(matrix, start, count, blocks=FIRST)
    if rough is None:
        return None
    if _settled(rough, count):
        return rough.vectors[:, :count]
    eigenvalues = 1 / rough.values
    least = eigenvalues[0] * (1 - 2 * rough.residuals[0])
    shift = least - 0.05 * (eigenvalues[count - 1] - least).abs()
    moved = matrix.clone()
    moved.diagonal().sub_(shift)
    found = _krylov(moved, rough.vectors, count, blocks=MOST)
    return found.vectors[:, :count] if found is not None and _settled(found, count) else None


def _krylov(matrix: "Tensor", start: "Tensor", count: int, *, blocks: int) -> _Ritz | None:
    """What the space of a block and its images under the inverse knows; None if that has no Cholesky factor.

    Args:
        matrix: whose inverse.
        start: `[n, k]`.
        count: of vectors that must settle.
        blocks: of the space, at most.
    """
    import torch

    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:
        return None
    wide = start.shape[1]
    space = start.new_empty(len(start), 0)
    images = start.new_empty(len(start), 0)
    image = start
    for number in range(1, blocks + 1):
        for _ in range(2):
            image = image - space @ (space.T @ image)
        block = torch.linalg.qr(image).Q
        image = torch.cholesky_solve(block, factor)
        space, images = torch.cat([space, block], dim=1), torch.cat([images, image], dim=1)
        if number % LOOK == 0 or number == blocks:
            found = _ritz(space, images, wide)
            if number == blocks or _settled(found, count):
                return found
    return None


def _settled(found: _Ritz, count: int) -> bool:
    return float(found.residuals[:count].max()) <= EXACT


def _ritz(space: "Tensor", images: "Tensor", count: int) -> _Ritz:
    """The inverse's best approximate eigenvectors in a space whose images are known."""
    import torch

    inner = space.T @ images
    values, turns = torch.linalg.eigh((inner + inner.T) / 2)
    values, turns = values[-count:].flip(0), turns[:, -count:].flip(1)
    vectors = space @ turns
    off = (images @ turns - vectors * values).norm(dim=0) / values.abs()
    return _Ritz(vectors=vectors, values=values, residuals=off)
