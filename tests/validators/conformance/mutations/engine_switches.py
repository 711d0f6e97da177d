"""Engines that do not switch adapters on and off as they are told, or keep something of an earlier call."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from tests.validators.conformance.mutations.engine_starts import mutant
from tests.validators.conformance.mutations.mutant import CONSTRUCTED
from tests.validators.conformance.mutations.seams import Seam, calls, method


def model_class() -> Any:
    from peft import PeftModelForCausalLM

    return PeftModelForCausalLM


def tuner_class() -> Any:
    from peft.tuners.lora import LoraModel

    return LoraModel


def layer_class() -> Any:
    from peft.tuners.lora.layer import LoraLayer

    return LoraLayer


def nothing(*_: Any, **__: Any) -> None:
    return None


def added(right: Callable[..., Any], model: Any, name: Any, *arguments: Any, **named: Any) -> None:
    """The adapter becomes active beside those that are."""
    names = [name] if isinstance(name, str) else list(name)
    right(model, list(dict.fromkeys([*model.active_adapters, *names])), *arguments, **named)


def not_restored(right: Callable[..., Any], layer: Any, enabled: bool) -> None:
    """Once switched off, an adapter stays off."""
    right(layer, enabled and not getattr(layer, "mutated_off", False))
    layer.mutated_off = not enabled


@contextmanager
def stays_on(_: Any, model: Any) -> Iterator[None]:
    """`disable_adapter` as a block that changes nothing."""
    yield


@contextmanager
def unguarded() -> Iterator[None]:
    """PEFT without zoo's guard: what a failing call registered stays."""
    from zoo import peft_model

    @contextmanager
    def open_door(_: Any) -> Iterator[None]:
        yield

    with mock.patch.object(peft_model, "guarded", open_door):
        yield


def drifting() -> AbstractContextManager[None]:
    """Every call leaves the base's embedding a little different."""

    def call(right: Callable[..., Any], model: Any, **arguments: Any) -> Any:
        import torch

        with torch.no_grad():
            model.get_base_model().get_input_embeddings().weight.mul_(1 + 1e-6)
        return right(**arguments)

    return calls(call)()


def only_once() -> AbstractContextManager[None]:
    """Removing an adapter puts the one before it out of action in the second layer on."""

    def delete(right: Callable[..., Any], layer: Any, name: str) -> None:
        right(layer, name)
        layer.scaling = dict.fromkeys(layer.scaling, 0.0)

    return method(layer_class, "delete_adapter", delete)()


def ignored(owner: Callable[[], Any], name: str) -> Seam:
    return method(owner, name, nothing)


SWITCHES = (
    mutant("stale-hooks", "a call that raises leaves its offsets behind",
           "peft 0.21.2, no try/finally around hooks",
           "ZP003", unguarded),
    mutant("disable-ignored", "disable_adapter does not switch the adapter off", CONSTRUCTED, "ZK004",
           method(model_class, "disable_adapter", stays_on)),
    mutant("set-adapter-ignored", "stays with the first adapter when told to use another",
           CONSTRUCTED, "ZK004",
           ignored(tuner_class, "set_adapter")),
    mutant("both-adapters-active", "a second adapter acts beside the first",
           "peft 0.21.2, two active adapters",
           "ZK004", method(tuner_class, "set_adapter", added)),
    mutant("off-for-good", "an adapter that was switched off does not act again", CONSTRUCTED, "ZK004",
           method(layer_class, "enable_adapters", not_restored)),
    mutant("unloading-the-second-stops-the-first", "removing one adapter takes the other's scale with it",
           CONSTRUCTED, "ZP004", only_once),
    mutant("base-changes-with-each-call", "every call changes the base's weights a little", CONSTRUCTED,
           "ZK001 ZR002", drifting),
)  # fmt: skip
