"""The reference in float64, as an oracle for small models."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.validators.conformance.reference import Reference

if TYPE_CHECKING:
    from torch.overrides import TorchFunctionMode


class Oracle(Reference):
    """A reference that computes in float64 throughout, with the same weights, factors and masks.

    Casting a transformers model to float64 is not enough. Its norms, rotary embeddings and softmaxes ask for
    float32 by name, whatever the weights are, and its fused experts know no float64. Here every request
    for a narrower type is answered with float64, and experts run one by one.

    The model's buffers, rotary frequencies among them, are taken with the bits that they have.
    """

    @classmethod
    def of(cls, reference: Reference) -> "Oracle":
        """The oracle of a reference, on a copy of its model: eight bytes a parameter on the same device.

        Args:
            reference: of any dtype; a bfloat16 model's oracle computes with its bfloat16 weights, exactly.
        """
        model = copy.deepcopy(reference.model).double()
        model.set_experts_implementation("eager")
        return cls(model, reference.updates)

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        import torch

        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # for numbers that a forward pass makes into tensors
        try:
            with _widening():
                yield
        finally:
            torch.set_default_dtype(before)


def _widening() -> "TorchFunctionMode":
    """Answers every request for a narrower floating type with float64."""
    import torch
    from torch.overrides import TorchFunctionMode

    narrow = frozenset({torch.float32, torch.bfloat16, torch.float16})
    casts = frozenset({torch.Tensor.float, torch.Tensor.bfloat16, torch.Tensor.half})

    def wide(value: Any) -> Any:
        return torch.float64 if isinstance(value, torch.dtype) and value in narrow else value

    class Widening(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func in casts:
                return args[0].double()
            return func(*map(wide, args), **{name: wide(value) for name, value in (kwargs or {}).items()})

    return Widening()
