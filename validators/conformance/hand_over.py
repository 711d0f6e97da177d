"""The hand-over of a prefix: the base prefills it, the adapter continues from the base's cache."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.kv import KvDifference
from zoo.validators.conformance.prefill import Prefill
from zoo.validators.conformance.stepping import in_chunks, log_probs

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.validators.conformance.session import Session

STEPS = 16  # a longer suffix is not also run token by token
OTHER_CALLS = "other calls"  # shown once a kind, see `zoo.validators.conformance.kind`


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """One prompt continued from the base's cache, by the base and by the adapter.

    Attributes:
        noise: the base in one way against the base in the first way: what chunking alone does, by way.
        adapted: the same for PEFT, by way.
        effect: PEFT against the base, log-probabilities from the start on.
        parity: PEFT against the reference at identical shapes; None where it was not run.
        drift: PEFT's logits for tokens between the cache's end and the start, against the base's at
            identical shapes; None when bitwise equal.
        taint: the prefix in the cache after PEFT ran, against the one handed over; None when bitwise equal.
        scale: largest absolute log-probability of the base from the start on.
    """

    noise: Mapping[str, Difference]
    adapted: Mapping[str, Difference]
    effect: Difference
    parity: Difference | None
    drift: LogitDrift | None
    taint: KvDifference | None
    scale: float


def hand_over(session: "Session", prompt: Prompt, whole: "tuple[Tensor, Tensor] | None") -> HandOver:
    """Measures one prompt that has a prefix.

    Chunkings of the prefix are rows of one batch: PEFT and the base take one call each over the suffix. A
    prompt that the reference runs too takes every chunking, the others the first two, which differ most.

    Args:
        session: the models.
        prompt: with a start above 0.
        whole: log-probabilities from the start on of the base and of PEFT in one call over the whole prompt,
            `[1, suffix, vocabulary]`; None for prompts that are too long for that.
    """
    made = session.rig.prefilled(prompt.prefix)
    rows = range(len(made.ways) if session.compares(prompt) else min(2, len(made.ways)))
    ids, cache = session.tensor([prompt.suffix] * len(rows)), made.cache(rows)
    base = log_probs(session.rig.after(made, prompt.suffix, rows=rows))
    peft = log_probs(peft_model.forward_by_rule(session.peft, ids, cache=cache))
    if tainted := made.taint(cache, rows):
        session.rig.forget(made)
    ways = [made.ways[row] for row in rows]
    noise = {way: difference(base[r], (whole[0] if whole else base)[0]) for r, way in enumerate(ways)}
    adapted = {way: difference(peft[r], (whole[1] if whole else peft)[0]) for r, way in enumerate(ways)}
    drift = None
    if whole and prompt == session.control_prompt and not session.rig.shown.find(OTHER_CALLS, session):
        more_noise, more_adapted, drift = _other_calls(session, prompt, made, whole)
        noise.update(more_noise)
        adapted.update(more_adapted)
    return HandOver(
        noise=noise,
        adapted=adapted,
        effect=difference(peft, base),
        parity=difference(peft, _expected(session, ids, made)) if session.compares(prompt) else None,
        drift=drift,
        taint=tainted,
        scale=float(base.abs().max()),
    )


def _expected(session: "Session", ids: "Tensor", made: Prefill) -> "Tensor":
    cache = made.cache(range(len(made.ways)))
    return session.reference.log_probs(ids, ids.new_ones(ids.shape).bool(), cache=cache)


def _other_calls(
    session: "Session", prompt: Prompt, made: Prefill, whole: "tuple[Tensor, Tensor]"
) -> tuple[dict[str, Difference], dict[str, Difference], LogitDrift | None]:
    """Caches that end before the start, and the suffix in several calls: what else a server may do."""
    rig, start = session.rig, prompt.start
    noise, adapted, drift = {}, {}, None
    for cut in sorted({1, start - 1} - {0, start}):
        rest = prompt.ids[cut:]
        base = rig.after(made, rest, length=cut)
        peft = peft_model.forward_by_rule(session.peft, session.tensor([rest]), cache=made.cache(length=cut))
        way = f"cache of {cut} tokens"
        noise[way] = difference(log_probs(base[:, start - cut :]), whole[0])
        adapted[way] = difference(log_probs(peft[:, start - cut :]), whole[1])
        drift = drift or logit_drift(peft[:, : start - cut], base[:, : start - cut])
    if 1 < len(prompt.suffix) <= STEPS:
        suffix = session.tensor([prompt.suffix])
        peft = in_chunks(session.active_step, suffix, [1] * len(prompt.suffix), made.cache())
        noise["suffix token by token"] = difference(log_probs(rig.stepped(made, prompt.suffix)), whole[0])
        adapted["suffix token by token"] = difference(log_probs(peft), whole[1])
    return noise, adapted, drift
