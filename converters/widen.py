"""Weights in normal form on more modules, exactly: there is more to train, and nothing changes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.converters.fold import Folded, target_names
from zoo.converters.keys import PREFIX
from zoo.converters.rank import A, B, fresh_rows, rank_of
from zoo.specs.lock import ChangeRecord

if TYPE_CHECKING:
    from torch import Tensor


# what writes into the residual stream: output projections of attention and MLP, as transformers names them
WRITERS = frozenset(
    {"o_proj", "out_proj", "c_proj", "down_proj", "dense", "dense_4h_to_h", "fc2", "fc_out", "wo", "w2"}
)


def widened(folded: Folded, linears: Mapping[str, tuple[int, int]]) -> Folded:
    """The same update, with output projections among the modules that it may act on.

    Args:
        folded: weights in normal form.
        linears: all linear modules of the base, `(out, in)` by path.
    """
    shapes = {path: shape for path, shape in linears.items() if path.rpartition(".")[2] in WRITERS}
    weights = widen(folded.weights, shapes)
    added = (len(weights) - len(folded.weights)) // 2
    if not added:
        return folded
    paths = [name.removeprefix(PREFIX).partition(A)[0] for name in weights if A in name]
    record = ChangeRecord(
        kind="widen",
        lines=[f"{added} output projections added, exact: nothing until they are calibrated"],
        measured={"modules": added},
    )
    return replace(
        folded, weights=weights, targets=target_names(paths, linears), changes=(*folded.changes, record)
    )


def widen(
    weights: Mapping[str, "Tensor"], shapes: Mapping[str, tuple[int, int]], *, seed: int = 0
) -> dict[str, "Tensor"]:
    """Weights with updates of nothing on further modules: fresh rows of A against zero columns of B.

    Args:
        weights: by PEFT file key, in normal form.
        shapes: of the modules to add, `[out, in]` by path; those that have weights keep them.
        seed: of the rows.

    Returns:
        By key, in the dtype of the weights.
    """
    rank, like = rank_of(weights), next(iter(weights.values()))
    found = dict(weights)
    for path, (out, wide) in shapes.items():
        a, b = (f"{PREFIX}{path}{part}weight" for part in (A, B))
        if a not in found:
            found[a] = fresh_rows(a, rank, wide, seed=seed).to(like)
            found[b] = like.new_zeros(out, rank)
    return found
