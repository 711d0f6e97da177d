"""The controls: the same weights activated wrongly, which every comparison with the base has to notice."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import KvDifference, Layers, empty_cache, first_difference, prefix_kv
from zoo.validators.conformance.stepping import log_probs

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One prompt run by PEFT in a batch of three: on time, one token late, and on every token.

    Attributes:
        one_late: the late row against the one on time, log-probabilities from the start on.
        plain_drift: logits before the start of the row on every token, against the base's at identical
            shapes; None when bitwise equal.
        plain_kv: that row's prefix KV against the base's; None when bitwise equal.
        plain_kv_due: whether the reference on every token changes the prefix KV: then `plain_kv` must exist.
    """

    one_late: Difference
    plain_drift: LogitDrift | None
    plain_kv: KvDifference | None
    plain_kv_due: bool


def run_control(session: "Session", prompt: Prompt) -> Control:
    """Runs the control on a prompt that has a prefix."""
    start, width = prompt.start, len(prompt.suffix)
    ids, cache = session.tensor([prompt.ids] * 3), empty_cache()
    found = peft_model.forward(session.peft, ids, offsets=[width, width - 1, len(prompt.ids)], cache=cache)
    base = session.rig.whole(prompt.ids, rows=3)
    late, on_time = log_probs(found[1, start:]), log_probs(found[0, start:])
    base_kv = _row(prefix_kv(base.cache, start), 2)
    plain_kv = first_difference(_row(prefix_kv(cache, start), 2), base_kv)
    return Control(
        one_late=difference(late, on_time),
        plain_drift=logit_drift(found[2:, :start], base.logits[2:, :start]),
        plain_kv=plain_kv,
        plain_kv_due=plain_kv is not None or _due(session, prompt),
    )


def _row(layers: Layers, row: int) -> Layers:
    return [(keys[row : row + 1], values[row : row + 1]) for keys, values in layers]


def _due(session: "Session", prompt: Prompt) -> bool:
    ids, cache = session.tensor([prompt.ids]), empty_cache()
    session.reference.logits(ids, ids.new_ones(ids.shape).bool(), cache=cache)
    base = session.rig.whole(prompt.ids).cache
    return first_difference(prefix_kv(cache, prompt.start), prefix_kv(base, prompt.start)) is not None
