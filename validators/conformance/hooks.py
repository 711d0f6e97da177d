"""What PEFT leaves behind when a call raises, with our guard and without it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import empty_cache

if TYPE_CHECKING:
    from torch import nn

    from zoo.validators.conformance.session import Session


class Planted(Exception):  # noqa: N818 - raised on purpose inside a forward pass, it reports nothing
    """The exception that `planted_failure` raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookLeak:
    """Stale hooks after a failing call.

    Attributes:
        unguarded: hooks that PEFT alone left registered; 0 when a later PEFT cleans up after itself.
        guarded: hooks left under our guard; must be 0.
        drift: the first call after the guarded failure against the same call before; None when bitwise equal.
    """

    unguarded: int
    guarded: int
    drift: LogitDrift | None


def leak(session: "Session", prompt: Prompt) -> HookLeak:
    """Lets one call over a prompt's suffix fail without and one with the guard, and counts what stays."""
    import torch

    model, ids = session.peft, session.tensor([prompt.suffix])
    before = peft_model.forward_by_rule(model, ids, cache=empty_cache())
    with planted_failure(model), torch.no_grad():
        try:
            model(input_ids=ids, use_cache=False)
        except Planted:
            unguarded = peft_model.offset_hooks(model, remove=True)
        else:
            unguarded = 0
        try:
            peft_model.forward_by_rule(model, ids, cache=empty_cache())
        except Planted:
            guarded = peft_model.offset_hooks(model)
        else:
            guarded = 0
    after = peft_model.forward_by_rule(model, ids, cache=empty_cache())
    return HookLeak(unguarded=unguarded, guarded=guarded, drift=logit_drift(after, before))


@contextmanager
def planted_failure(model: "nn.Module") -> Iterator[None]:
    """Makes every forward pass of the model's first wrapped layer raise `Planted` in the block."""
    from peft.tuners.lora.layer import LoraLayer

    first = next(module for module in model.modules() if isinstance(module, LoraLayer))

    def fail(*_: Any) -> None:
        raise Planted

    handle = first.register_forward_hook(fail)
    try:
        yield
    finally:
        handle.remove()
