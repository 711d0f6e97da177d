"""One module's tensors of a PEFT method other than LoRA, with the settings that decide what they compute."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.converters.modules import broken
from zoo.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor

MERGE = "merge it where it was trained (merge_and_unload), and convert that model with --extract RANK"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What a builder makes a form of.

    Attributes:
        path: the module's path in the base model.
        shape: `(out_features, in_features)` of its weight.
        tensors: by part name; those that all modules share are among them.
        settings: the adapter's config as it was written.
        rank: the config's rank for this module, after patterns.
        alpha: the config's alpha for this module, after patterns.
        widest: `(out_features, in_features)`, each the largest of any adapted module.
        weight: loads the base weight, float `[out, in]`.
        has_bias: whether the base module adds a bias.
        index: its number among the adapted modules, in the model's order; of methods for which that counts.
        among: `(out_features, in_features)` of all of those, in that order.
        taken: the parts that were taken so far.
    """

    path: str
    shape: tuple[int, int]
    tensors: "Mapping[str, Tensor]"
    settings: Mapping[str, Any]
    rank: int
    alpha: float
    widest: tuple[int, int]
    weight: "Callable[[], Tensor]"
    has_bias: bool = False
    index: int = 0
    among: tuple[tuple[int, int], ...] = ()
    taken: set[str] = field(default_factory=set, compare=False)

    def take(self, part: str, *shape: int | None) -> "Tensor":
        """One tensor, whose shape must be `shape`; None stands for any size.

        Raises:
            RefusedError: ZV016, it is missing or has another shape.
        """
        tensor = self.tensors.get(part)
        if tensor is None:
            raise broken(f"{self.path} has no {part}")
        self.taken.add(part)
        found = tuple(tensor.shape)
        if len(found) != len(shape) or any(
            w is not None and w != f for w, f in zip(shape, found, strict=True)
        ):
            wanted = "×".join("any" if size is None else str(size) for size in shape)
            raise broken(f"{self.path}.{part} is {'×'.join(map(str, found))}, not {wanted}")
        if not tensor.is_floating_point() and "indices" not in part:
            raise broken(f"{self.path}.{part} holds {str(tensor.dtype).removeprefix('torch.')} values")
        return tensor

    def numbered(self, part: str) -> int:
        """How many tensors there are of a part that is stored as a list: `part.0`, `part.1` and so on."""
        count = 0
        while f"{part}.{count}" in self.tensors:
            count += 1
        return count

    def no_bias(self, what: str) -> None:
        """Refuses a base module with a bias, for a method that changes the bias too.

        Raises:
            RefusedError: ZV011.
        """
        if self.has_bias:
            raise RefusedError(
                f"{self.path} has a bias, which {what} too; an update of weights has no place for that",
                code="ZV011",
                hint="merge it with PEFT and convert the merged model with --extract RANK, and see its loss",
            )

    def all_taken(self) -> None:
        """Refuses tensors that no part of the method's formula has used: they would be left out unsaid.

        Raises:
            RefusedError: ZV016, there are some.
        """
        if unused := sorted({*self.tensors} - self.taken):
            raise broken(f"{self.path} has {unused[0]} beside {', '.join(sorted(self.taken))}")

    def agree(self, rank: int) -> int:
        """The rank that a tensor has, which must be the config's.

        Raises:
            RefusedError: ZV016, it is another.
        """
        if rank != self.rank:
            raise broken(f"{self.path} has rank {rank}, its config says {self.rank}")
        return rank

    def number(self, key: str, default: float) -> float:
        """A number of the config.

        Raises:
            RefusedError: ZV016, it is no finite number.
        """
        value = self.settings.get(key)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
            raise broken(f"{key} is {str(value)[:40]!r}, not a number")
        return value


def unfoldable(what: str, *, hint: str = MERGE) -> RefusedError:
    """ZV012 for a mode of a method that has no fixed update, or none that zoo can hold against PEFT's.

    Args:
        what: the end of a sentence "the adapter …".
        hint: what to do.
    """
    return RefusedError(f"the adapter {what}", code="ZV012", hint=hint)
