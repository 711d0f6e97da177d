"""What readers of other trainers' files share: two tensors a module, checked by shape, loaded later."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.checkpoint import LoraCheckpoint, SourceInvocation
from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken
from zoo.converters.source import Source
from zoo.converters.tensors import FLOATS, finite
from zoo.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN_STARTS = ("base_model.model.", "_orig_mod.", "module.", "model._orig_mod.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """One factor as it lies in a file.

    Attributes:
        source: the opened source.
        name: the tensor's name.
        turned: whether it is stored transposed.
        rows: the parts of its rows (after turning) that are meant, one after another; empty for all.
        order: what rearranges its rows at last; None for nothing.
    """

    source: Source
    name: str
    turned: bool = False
    rows: tuple[slice, ...] = ()
    order: "Callable[[Tensor], Tensor] | None" = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns as they are meant, from the file's header.

        Raises:
            RefusedError: ZV016, it is no matrix of floating-point numbers; ZV010, it has three dimensions.
        """
        found = self.source.file.shapes[self.name]
        if len(found.shape) == 3:
            raise RefusedError(
                f"{self.name[:200]} has one matrix for each expert of a mixture",
                code="ZV010",
                hint="train again with dense layers only",
            )
        if found.dtype not in FLOATS or len(found.shape) != 2:
            raise broken(f"{self.name[:200]} is {found.dtype} with {len(found.shape)} dimensions")
        rows, columns = reversed(found.shape) if self.turned else found.shape
        return (sum(len(range(rows)[part]) for part in self.rows) if self.rows else rows), columns

    def load(self) -> "Tensor":
        """The factor: float, of `shape`.

        Raises:
            RefusedError: ZV016, a value is not finite.
        """
        import torch

        tensor = self.source.file.load(self.name)
        if not finite(tensor):
            raise broken(f"{self.name[:200]} holds values that are not finite")
        tensor = tensor.T if self.turned else tensor
        if self.rows:
            tensor = torch.cat([tensor[part] for part in self.rows])
        return tensor.contiguous() if self.order is None else self.order(tensor)


def pair(path: str, shape: tuple[int, int], a: Factor, b: Factor, scale: float) -> Callable[[], LowRank]:
    """Loads a module's plain update, checked by shape now.

    Args:
        path: the module's.
        shape: `(out_features, in_features)` of its base weight.
        a: to be `[r, in]`.
        b: to be `[out, r]`.
        scale: what multiplies the product.

    Raises:
        RefusedError: ZV017, the factors do not fit the module; see `Factor.shape`.
    """
    (r, wide), (out, inner) = a.shape, b.shape
    if (out, wide) != shape or r != inner:
        raise RefusedError(
            f"{path}: factors {out}×{inner} and {r}×{wide} do not fit the base module {shape[0]}×{shape[1]}",
            code="ZV017",
            hint="name the base model that the adapter was trained on with --base",
        )
    return lambda: LowRank(a=a.load(), b=b.load(), scale=scale)


def grouped(names: Iterable[str], endings: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Tensor names by module and part, and the names with none of the endings.

    Args:
        names: of a file.
        endings: the part each ending of a name stands for; longer endings first where one ends another.

    Raises:
        RefusedError: ZV016, two tensors for one part of a module.
    """
    found: dict[str, dict[str, str]] = {}
    others = []
    for name in sorted(names):
        ending = next((ending for ending in endings if name.endswith(ending)), "")
        if not ending:
            others.append(name)
            continue
        path = name.removesuffix(ending)
        for start in HIDDEN_STARTS:
            path = path.removeprefix(start)
        parts = found.setdefault(path, {})
        if endings[ending] in parts:
            raise broken(f"{path[:200]} has two tensors for {endings[ending]}")
        parts[endings[ending]] = name
    return found, others


def complete(path: str, parts: Mapping[str, str], *wanted: str) -> None:
    """Refuses a module that lacks a part.

    Raises:
        RefusedError: ZV016.
    """
    missing = [part for part in wanted if part not in parts]
    if missing:
        raise broken(f"{path[:200]} has no {missing[0]}")


def no_others(others: Sequence[str]) -> None:
    """Refuses tensors that a format does not explain.

    Raises:
        RefusedError: ZV015.
    """
    if others:
        raise RefusedError(
            f"the tensor {others[0][:200]!r} is no part of an update of low rank ({len(others)} such)",
            code="ZV015",
            hint="an aLoRA cannot carry changed base weights: train again without saving whole modules",
        )


def scale_of(alpha: float | None, rank: int, trainer: str) -> float:
    """Alpha over rank, where alpha is not in the file.

    Raises:
        RefusedError: ZV024, nobody said it.
    """
    if alpha is None:
        raise RefusedError(
            f"{trainer} does not keep alpha in the file of weights, and without it the scale is unknown",
            code="ZV024",
            hint="give it with --alpha, as the training script had it: alpha / rank multiplies the update",
        )
    return alpha / rank


def assemble(
    source: Source,
    trainer: str,
    modules: Mapping[str, Callable[[], Form]],
    shapes: Mapping[str, tuple[int, int]],
    *,
    notes: Sequence[str] = (),
    renames: Sequence[str] = (),
    lost: Sequence[str] = (),
    warnings: Sequence[str] = (),
    invocation: SourceInvocation | None = None,
) -> LoraCheckpoint:
    """The neutral form of another trainer's file.

    Raises:
        RefusedError: ZV016, no module at all.
    """
    if not modules:
        raise broken("there is no LoRA factor in it")
    return LoraCheckpoint(
        format=trainer,
        folder=source.folder,
        name=source.name,
        config=source.config,
        modules=dict(sorted(modules.items())),
        shapes=dict(shapes),
        digests=dict(source.digests),
        invocation=invocation,
        renames=tuple(renames),
        notes=tuple(notes),
        lost=tuple(lost),
        warnings=tuple(warnings),
    )


def renamed(places: Mapping[str, str]) -> list[str]:
    """How module names were read, as the plan says it: the first of many.

    Args:
        places: module path in the base by the name in the file.
    """
    changed = [(written, path) for written, path in sorted(places.items()) if written != path]
    if len(changed) <= 4:
        return [f"module {written[:120]} → {path}" for written, path in changed]
    written, path = changed[0]
    return [f"{len(changed)} modules renamed, such as {written[:120]} → {path}"]


def unpaired(rows: "Tensor", heads: int) -> "Tensor":
    """Rows of a head from an order in which rotary partners are neighbours to Hugging Face's halves.

    Args:
        rows: `[out, r]`.
        heads: of the projection.
    """
    out, r = rows.shape
    return rows.view(heads, out // heads // 2, 2, r).transpose(1, 2).reshape(out, r)
