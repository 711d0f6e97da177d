"""What is measured for one prompt: whole runs at identical shapes, then the hand-over of its prefix."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference, worst
from zoo.validators.conformance.drift import LogitDrift, logit_drift
from zoo.validators.conformance.hand_over import HandOver, hand_over
from zoo.validators.conformance.kv import KvDifference, empty_cache, first_difference, prefix_kv
from zoo.validators.conformance.stepping import log_probs

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.validators.conformance.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeRuns:
    """One prompt run whole, at identical shapes, by the base, PEFT and the reference.

    Attributes:
        parity: PEFT under its own activation rule against the reference, log-probabilities from the start on.
        effect: PEFT against the base, log-probabilities from the start on.
        drift: PEFT's logits before the start against the base's, or None when bitwise equal.
        kv: PEFT's prefix KV against the base's, or None when bitwise equal.
        scale: largest absolute log-probability of the base from the start on.
        run_to_run: the base against itself in the same call; zero where kernels are deterministic.
    """

    parity: Difference
    effect: Difference
    drift: LogitDrift | None
    kv: KvDifference | None
    scale: float
    run_to_run: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEvidence:
    """All that was measured for one prompt.

    Attributes:
        prompt: the prompt.
        label: names it in findings.
        whole: None for a prompt that is too long to be run whole for each adapter.
        hand_over: None for a prompt that begins with the invocation.
    """

    prompt: Prompt
    label: str
    whole: WholeRuns | None
    hand_over: HandOver | None

    @property
    def parity(self) -> Difference:
        """PEFT against the reference, wherever both ran."""
        found = (self.whole and self.whole.parity, self.hand_over and self.hand_over.parity)
        return worst(one for one in found if one)

    @property
    def effect(self) -> Difference:
        """PEFT against the base from the start on."""
        return worst(one.effect for one in (self.whole, self.hand_over) if one)

    @property
    def scale(self) -> float:
        """Largest absolute log-probability of the base from the start on."""
        return max((one.scale for one in (self.whole, self.hand_over) if one), default=0.0)


def measure(session: "Session", prompt: Prompt, label: str) -> PromptEvidence:
    """Measures one prompt; of the adapter's tensors only the few in `session.alone` outlive the call."""
    whole = after = None
    if prompt in session.whole_prompts:
        cache = empty_cache()
        peft = peft_model.forward_by_rule(session.peft, session.tensor([prompt.ids]), cache=cache)
        base = session.rig.whole(prompt.ids)
        after = (log_probs(base.logits[:, prompt.start :]), log_probs(peft[:, prompt.start :]))
        session.alone[prompt.ids] = after[1][0]
        whole = WholeRuns(
            parity=difference(after[1], _expected(session, prompt)),
            effect=difference(after[1], after[0]),
            drift=logit_drift(peft[:, : prompt.start], base.logits[:, : prompt.start]),
            kv=first_difference(prefix_kv(cache, prompt.start), prefix_kv(base.cache, prompt.start)),
            scale=float(after[0].abs().max()),
            run_to_run=session.rig.run_to_run(prompt.ids),
        )
    return PromptEvidence(
        prompt=prompt,
        label=label,
        whole=whole,
        hand_over=hand_over(session, prompt, after) if prompt.start else None,
    )


def _expected(session: "Session", prompt: Prompt) -> "Tensor":
    mask = session.reference.masks([prompt.ids], session.invocation)
    found = session.reference.log_probs(session.tensor([prompt.ids]), mask, cache=empty_cache())
    return found[:, prompt.start :]
