"""The same tokens by the adapter, by the base with the adapter switched off, and by a second adapter."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import cut_back, empty_cache
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.stepping import log_probs

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.validators.conformance.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Switching:
    """What one model computes for the same tokens as it is switched.

    `zoo.validators.conformance.taint` takes turns with other tokens between them, so that results which are
    served again for the same tokens, or a switch that does nothing, cannot show there.

    Attributes:
        exact: by what was done, logits against those they must equal bit by bit; None when they do.
        left: tokens in a cache that was cut back to the prefix, minus the prefix's.
        other: the second adapter against the reference of its update, log-probabilities.
        apart: that reference against the first adapter's: what there is to see.
    """

    exact: dict[str, LogitDrift | None]
    left: int
    other: Difference
    apart: Difference


def switch(session: "Session", prompt: Prompt) -> Switching:
    """Runs the suffix of one prompt on the base's prefix, again and again.

    The second adapter is the first with its update negated.

    Args:
        session: the models.
        prompt: with a start above 0.
    """
    rig, model = session.rig, session.peft
    made = rig.prefilled(prompt.prefix)
    ids, base = session.tensor([prompt.suffix]), rig.after(made, prompt.suffix)
    whole = rig.whole(prompt.ids).logits
    used = made.cache()
    first = peft_model.forward_by_rule(model, ids, cache=used)
    cut_back(used, prompt.start)
    left = used.get_seq_length() - prompt.start
    exact = {
        "switched off": logit_drift(peft_model.forward_switched_off(model, ids, cache=made.cache()), base),
        "switched off, on the cache that it ran on": logit_drift(
            peft_model.forward_switched_off(model, ids, cache=used), base
        ),
        "switched off, over the whole prompt": logit_drift(
            peft_model.forward_switched_off(model, session.tensor([prompt.ids]), cache=empty_cache()), whole
        ),
    }
    with peft_model.negated(model):
        second = peft_model.forward_by_rule(model, ids, cache=made.cache())
    again = peft_model.forward_by_rule(model, ids, cache=made.cache())
    exact["switched on again"] = logit_drift(again, first)
    expected = _negated(session).log_probs(ids, _all(ids), cache=made.cache())
    own = session.reference.log_probs(ids, _all(ids), cache=made.cache())
    return Switching(
        exact=exact,
        left=left,
        other=difference(log_probs(second), expected),
        apart=difference(expected, own),
    )


def _negated(session: "Session") -> Reference:
    updates = session.reference.updates
    return Reference(session.model, {path: replace(one, scale=-one.scale) for path, one in updates.items()})


def _all(ids: "Tensor") -> "Tensor":
    return ids.new_ones(ids.shape).bool()
