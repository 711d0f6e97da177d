"""Several prompts in one call: padded left and right, each with its own start."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference, worst
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import empty_cache
from zoo.validators.conformance.stepping import log_probs, padded, positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.validators.conformance.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One padded batch of prompts.

    Attributes:
        side: `left` or `right`: where the padding is.
        noise: the base's rows in the batch against the base's rows alone, log-probabilities.
        adapted: PEFT's rows in the batch against PEFT's rows alone, from each row's start on.
        drift: PEFT's logits before a row's start against the base's in the same batch; None when equal.
        scale: largest absolute log-probability of the base.
    """

    side: str
    noise: Difference
    adapted: Difference
    drift: LogitDrift | None
    scale: float


def batches(session: "Session") -> list[Batch]:
    """Runs the whole prompts as one batch, padded left, then right, under PEFT's own activation rule."""
    if len(session.alone) < len(session.whole_prompts):
        session.evidence  # noqa: B018 - it leaves what each prompt gives alone
    return [_batch(session, session.whole_prompts, left=left) for left in (True, False)]


def _batch(session: "Session", prompts: "Sequence[Prompt]", *, left: bool) -> Batch:
    rows, masks = padded([prompt.ids for prompt in prompts], pad_id=session.pad_id, left=left)
    ids, mask = session.tensor(rows), session.tensor(masks)
    where = positions(mask)
    base = session.rig.padded(rows, masks)
    peft = peft_model.forward_by_rule(
        session.peft, ids, attention_mask=mask, position_ids=where, cache=empty_cache()
    )
    noise, adapted, drifts, scale = [], [], [], 0.0
    for row, prompt in enumerate(prompts):
        first = ids.shape[1] - len(prompt.ids) if left else 0
        own, start = slice(first, first + len(prompt.ids)), first + prompt.start
        alone = log_probs(session.rig.whole(prompt.ids).logits)[0]
        noise.append(difference(log_probs(base[row, own]), alone))
        adapted.append(difference(log_probs(peft[row, start : own.stop]), session.alone[prompt.ids]))
        drifts.append(logit_drift(peft[row : row + 1, first:start], base[row : row + 1, first:start]))
        scale = max(scale, float(alone.abs().max()))
    return Batch(
        side="left" if left else "right",
        noise=worst(noise),
        adapted=worst(adapted),
        drift=next((drift for drift in drifts if drift), None),
        scale=scale,
    )
