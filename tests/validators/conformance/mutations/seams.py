"""Where an engine can be broken: PEFT's search for the invocation, its update, and its calls.

Each seam replaces one function of PEFT while a block lasts. What PEFT would have done is handed to the
replacement as `right`, so that a mutant says only what it does otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

from torch import Tensor

Offsets = list[int | None]
Seam = Callable[[], AbstractContextManager[None]]


def search(change: Callable[[Sequence[int], Sequence[int]], int | None]) -> Seam:
    """A row's offset from its ids and the invocation: how many tokens from the end are adapted."""

    def rows(_: Offsets, ids: Tensor, invocation: Sequence[int]) -> Offsets:
        return [change(row, invocation) for row in ids.tolist()]

    return offsets(rows)


def offsets(change: Callable[[Offsets, Tensor, Sequence[int]], Offsets]) -> Seam:
    """Every row's offset from PEFT's own, the ids `[batch, tokens]` and the invocation."""

    @contextmanager
    def patched() -> Iterator[None]:
        from peft.tuners.lora import variants

        right = variants.calculate_alora_offsets

        def wrong(config: Any, active: str, input_ids: Tensor, adapter_names: Any = None) -> Offsets:
            invocation = config[active].alora_invocation_tokens
            found: Offsets = list(right(config, active, input_ids, adapter_names))
            return change(found, input_ids, invocation)

        with mock.patch.object(variants, "calculate_alora_offsets", wrong):
            yield

    return patched


def update(change: Callable[..., Tensor]) -> Seam:
    """The update of one wrapped layer: `change(right, module, x=, result=, active_adapter=, **rest)`."""

    @contextmanager
    def patched() -> Iterator[None]:
        from peft.tuners.lora.variants import ALoraLinearVariant

        right = ALoraLinearVariant.forward

        def wrong(module: Any, **arguments: Any) -> Tensor:
            return change(right, module, **arguments)

        with mock.patch.object(ALoraLinearVariant, "forward", staticmethod(wrong)):
            yield

    return patched


def calls(change: Callable[..., Any], *, generate: bool = True) -> Seam:
    """A whole call of the model, `forward` or `generate`: `change(right, model, **arguments)`."""

    @contextmanager
    def patched() -> Iterator[None]:
        from peft import PeftModelForCausalLM

        def wrapped(name: str) -> Callable[..., Any]:
            right = getattr(PeftModelForCausalLM, name)

            def wrong(model: Any, **arguments: Any) -> Any:
                return change(lambda **given: right(model, **given), model, **arguments)

            return wrong

        names = ("forward", "generate") if generate else ("forward",)
        with ExitStack() as patches:
            for name in names:
                patches.enter_context(mock.patch.object(PeftModelForCausalLM, name, wrapped(name)))
            yield

    return patched


def loading(change: Callable[[Any], None]) -> Seam:
    """What has been loaded, before anybody uses it: `change(peft_model)`."""

    @contextmanager
    def patched() -> Iterator[None]:
        from zoo import peft_model

        right = peft_model.attach

        def wrong(*arguments: Any, **named: Any) -> Any:
            model = right(*arguments, **named)
            change(model)
            return model

        with mock.patch.object(peft_model, "attach", wrong):
            yield

    return patched


def method(owner: Callable[[], Any], name: str, change: Callable[..., Any]) -> Seam:
    """Any method of PEFT or transformers: `change(right, self, *arguments, **named)`."""

    @contextmanager
    def patched() -> Iterator[None]:
        target = owner()
        right = getattr(target, name)

        def wrong(self: Any, *arguments: Any, **named: Any) -> Any:
            return change(right, self, *arguments, **named)

        with mock.patch.object(target, name, wrong):
            yield

    return patched


def layer_index(module: Any) -> int:
    """Which decoder layer a wrapped module belongs to; needs `named` to have been applied."""
    return int(module.mutated_path.split(".layers.")[1].split(".")[0])


def leaf(module: Any) -> str:
    """The last part of a wrapped module's path, such as `k_proj`."""
    return str(module.mutated_path.rpartition(".")[2])


def named() -> AbstractContextManager[None]:
    """While the block lasts each wrapped module of a loaded model knows its own path."""
    from peft.tuners.lora.layer import LoraLayer

    def note(model: Any) -> None:
        found: dict[str, Any] = dict(model.named_modules())
        for path, module in found.items():
            if isinstance(module, LoraLayer):
                setattr(module, "mutated_path", path)  # noqa: B010 - it has no such attribute

    return loading(note)()


def located(change: Callable[..., Tensor]) -> Seam:
    """As `update`, for a change that asks `layer_index` or `leaf`."""

    @contextmanager
    def patched() -> Iterator[None]:
        with named(), update(change)():
            yield

    return patched
