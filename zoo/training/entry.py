"""Keys and values of a run of tokens in every layer, in one block of memory that is moved as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    Layers = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Keys and values of a run of tokens.

    Attributes:
        flat: all of them, `[numbers]`, in the model's dtype.
        shapes: per layer of keys and of values: `(kv_heads, tokens, head)`.
    """

    flat: "Tensor"
    shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]

    @classmethod
    def of(cls, layers: "Layers") -> "Entry":
        """A copy of keys and values `[kv_heads, tokens, head]`."""
        import torch

        return cls(
            flat=torch.cat([tensor.reshape(-1) for pair in layers for tensor in pair]),
            shapes=tuple((tuple(k.shape), tuple(v.shape)) for k, v in layers),
        )

    @property
    def tokens(self) -> int:
        """How many tokens."""
        return self.shapes[0][0][1]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.flat.nbytes

    def layers(self) -> "Layers":
        """Views of keys and values by layer, `[kv_heads, tokens, head]`."""
        found, begin = [], 0
        for k, v in self.shapes:
            middle = begin + prod(k)
            end = middle + prod(v)
            found.append((self.flat[begin:middle].view(k), self.flat[middle:end].view(v)))
            begin = end
        return found

    def block(self) -> "Tensor":
        """All of it as `[layers, 2, kv_heads, tokens, head]`.

        Raises:
            ValueError: layers or keys and values differ in shape.
        """
        shapes = {shape for pair in self.shapes for shape in pair}
        if len(shapes) != 1:
            raise ValueError(f"layers of shapes {sorted(shapes)}")
        return self.flat.view(len(self.shapes), 2, *shapes.pop())

    def at(self, flat: "Tensor") -> "Entry":
        """The same numbers in other memory."""
        return Entry(flat=flat, shapes=self.shapes)


class Recorder:
    """Collects the entries of some rows of a line layer by layer, each written to its place at once.

    A long prefix is most of what its own pass holds: gathering all layers first would hold it twice.
    """

    def __init__(self, spans: Sequence[tuple[int, int]], layers: int) -> None:
        """Nothing is held yet.

        Args:
            spans: where each row begins and ends in the line.
            layers: how many will come.
        """
        self._spans = spans
        self._count = layers
        self._flat: list[Tensor] = []
        self._parts: list[dict[int, tuple[Tensor, Tensor]]] = [{} for _ in spans]

    def add(self, layer: int, key: "Tensor", value: "Tensor") -> None:
        """Copies one layer's keys and values `[kv_heads, tokens of the line, head]`."""
        for row, (begin, end) in enumerate(self._spans):
            k, v = key[:, begin:end].detach(), value[:, begin:end].detach()
            size = k.numel() + v.numel()
            if len(self._flat) == row:  # the first layer: the others are taken to be like it
                self._flat.append(k.new_empty(size * self._count))
            room = self._flat[row][layer * size : (layer + 1) * size]
            if room.numel() == size and size * self._count == self._flat[row].numel():
                first, second = room[: k.numel()], room[k.numel() :]
                k, v = first.view(k.shape).copy_(k), second.view(v.shape).copy_(v)
                self._parts[row][layer] = (k, v)
            else:
                self._parts[row][layer] = (k.clone(), v.clone())

    def entries(self) -> list[Entry]:
        """One entry a row.

        Raises:
            ValueError: a layer is missing.
        """
        if any(len(parts) != self._count for parts in self._parts):
            raise ValueError(f"not every one of {self._count} layers was recorded")
        found = []
        for flat, parts in zip(self._flat, self._parts, strict=True):
            layers = [parts[layer] for layer in range(self._count)]
            sizes = {k.numel() + v.numel() for k, v in layers}
            alike = len(sizes) == 1
            shapes = tuple((tuple(k.shape), tuple(v.shape)) for k, v in layers)
            found.append(Entry(flat=flat, shapes=shapes) if alike else Entry.of(layers))
        return found
