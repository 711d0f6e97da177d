"""An adapter's low-rank factors, in the model or beside it."""

from typing import TYPE_CHECKING, Any

from zoo.peft_model import lora_layers

if TYPE_CHECKING:
    from peft import PeftModel
    from torch.nn import Parameter


class Factors:
    """The factors of one adapter, of which several can be trained in passes of one model."""

    def __init__(self, model: "PeftModel") -> None:
        """Takes the active adapter's factors out of a model and leaves copies in it.

        Args:
            model: with one adapter, initialised.
        """
        from torch.nn import Parameter

        self._model = model
        self.parameters = {key: p for key, p in model.named_parameters() if ".lora_" in key}
        name = model.active_adapter
        layers: list[Any] = [layer for layer in lora_layers(model) if name in layer.lora_A]  # type: ignore[operator]
        self._own = {
            layer: (
                layer.lora_A[name],
                layer.lora_A[name].weight,
                layer.lora_B[name],
                layer.lora_B[name].weight,
            )
            for layer in layers
        }
        for linear_a, a, linear_b, b in self._own.values():
            linear_a.weight, linear_b.weight = (Parameter(one.detach().clone()) for one in (a, b))

    def of(self, layer: Any) -> "tuple[Parameter, Parameter]":
        """A and B of a layer, `[rank, in]` and `[out, rank]`."""
        _, a, _, b = self._own[layer]
        return a, b

    def put(self) -> None:
        """Puts the factors into the model, where whatever runs it finds them."""
        for linear_a, a, linear_b, b in self._own.values():
            linear_a.weight, linear_b.weight = a, b
