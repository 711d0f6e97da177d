"""What is measured for one prompt: every model over the whole of it, then the hand-over of its prefix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.difference import Difference, difference, same_bits
from zoo.validators.conformance.kv import (
    KvDifference,
    Layers,
    copied,
    empty_cache,
    first_difference,
    prefix_kv,
)
from zoo.validators.conformance.stepping import chunkings, in_chunks, log_probs, run_base

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

    from zoo.validators.conformance.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitDrift:
    """Where raw logits first differ from the base's by a bit, and by how much anywhere compared."""

    position: int
    max_abs: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FullRuns:
    """One prompt run whole, at identical shapes, by the base, PEFT, the reference, and PEFT as a plain LoRA.

    Attributes:
        parity: PEFT under its own activation rule against the reference, log-probabilities from the start on.
        effect: PEFT against the base, log-probabilities from the start on.
        drift: PEFT's logits before the start against the base's, or None when bitwise equal.
        kv: PEFT's prefix KV against the base's, or None when bitwise equal.
        plain_drift: `drift` of the same weights on every token.
        plain_kv: `kv` of the same weights on every token.
        plain_kv_due: whether the reference on every token changes the prefix KV: then `plain_kv` must exist.
        scale: largest absolute log-probability of the base from the start on.
    """

    parity: Difference
    effect: Difference
    drift: LogitDrift | None
    kv: KvDifference | None
    plain_drift: LogitDrift | None
    plain_kv: KvDifference | None
    plain_kv_due: bool
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """The base prefills one prompt's prefix in several chunkings; base and PEFT each continue from its cache.

    Attributes:
        noise: the base continuing, against the base in one call: what chunking alone does, by chunking.
        adapted: PEFT continuing, against PEFT in one call, by chunking.
        one_late: PEFT continuing with the start one token late, against PEFT continuing, at equal shapes.
    """

    noise: Mapping[str, Difference]
    adapted: Mapping[str, Difference]
    one_late: Difference


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEvidence:
    """All that was measured for one prompt."""

    prompt: Prompt
    label: str
    full: FullRuns
    hand_over: HandOver


def measure(session: "Session", prompt: Prompt, label: str) -> PromptEvidence:
    """Measures one prompt; no tensor outlives the call."""
    ids, start = session.tensor([prompt.ids]), prompt.start
    base_cache = empty_cache()
    base = run_base(session.model, ids, base_cache)
    peft_cache = empty_cache()
    peft = peft_model.forward_by_rule(session.peft, ids, cache=peft_cache)
    full = _full_runs(session, prompt, (base, base_cache), (peft, peft_cache))
    hand_over = _hand_over(session, prompt, log_probs(base[:, start:]), log_probs(peft[:, start:]))
    return PromptEvidence(prompt=prompt, label=label, full=full, hand_over=hand_over)


def _full_runs(
    session: "Session",
    prompt: Prompt,
    base: "tuple[Tensor, DynamicCache]",
    peft: "tuple[Tensor, DynamicCache]",
) -> FullRuns:
    ids, start = session.tensor([prompt.ids]), prompt.start
    reference = session.reference
    mask = reference.masks([prompt.ids], session.invocation)
    base_after, peft_after = log_probs(base[0][:, start:]), log_probs(peft[0][:, start:])
    expected = reference.log_probs(ids, mask, cache=empty_cache())[:, start:]
    base_kv = prefix_kv(base[1], start)
    plain_cache = empty_cache()
    plain = peft_model.forward(session.peft, ids, offsets=[len(prompt.ids)], cache=plain_cache)
    plain_kv = first_difference(prefix_kv(plain_cache, start), base_kv)
    return FullRuns(
        parity=difference(peft_after, expected),
        effect=difference(peft_after, base_after),
        drift=logit_drift(peft[0][:, :start], base[0][:, :start]),
        kv=first_difference(prefix_kv(peft[1], start), base_kv),
        plain_drift=logit_drift(plain[:, :start], base[0][:, :start]),
        plain_kv=plain_kv,
        plain_kv_due=plain_kv is not None or _plain_kv_due(session, ids, base_kv),
        scale=float(base_after.abs().max()),
    )


def _plain_kv_due(session: "Session", ids: "Tensor", base_kv: Layers) -> bool:
    if not base_kv or base_kv[0][0].shape[-2] == 0:
        return False
    cache = empty_cache()
    session.reference.logits(ids, ids.new_ones(ids.shape).bool(), cache=cache)
    return first_difference(prefix_kv(cache, base_kv[0][0].shape[-2]), base_kv) is not None


def _hand_over(session: "Session", prompt: Prompt, base_whole: "Tensor", peft_whole: "Tensor") -> HandOver:
    prefix, suffix = session.tensor([prompt.prefix]), session.tensor([prompt.suffix])
    noise, adapted = {}, {}
    cache = empty_cache()  # of the last chunking after the loop; chunkings() is never empty
    for name, sizes in chunkings(len(prompt.prefix)).items():
        cache = empty_cache()
        in_chunks(session.base_step, prefix, sizes, cache)
        for tail, pieces in _tails(len(prompt.suffix), singly=name == "whole").items():
            continued = in_chunks(session.base_step, suffix, pieces, copied(cache))
            noise[f"{name}, {tail}"] = difference(log_probs(continued), base_whole)
            continued = in_chunks(session.active_step, suffix, pieces, copied(cache))
            adapted[f"{name}, {tail}"] = difference(log_probs(continued), peft_whole)
    width = len(prompt.suffix)
    on_time = peft_model.forward(session.peft, suffix, offsets=[width], cache=copied(cache))
    late = peft_model.forward(session.peft, suffix, offsets=[width - 1], cache=copied(cache))
    return HandOver(noise=noise, adapted=adapted, one_late=difference(log_probs(late), log_probs(on_time)))


def _tails(length: int, *, singly: bool) -> dict[str, list[int]]:
    tails = {"suffix whole": [length]}
    if singly and 1 < length <= 16:
        tails["suffix token by token"] = [1] * length
    return tails


def logit_drift(found: "Tensor", expected: "Tensor") -> LogitDrift | None:
    """Where logits `[batch, tokens, vocabulary]` first differ by a bit, or None when they never do."""
    same = same_bits(found, expected)
    if bool(same.all()):
        return None
    wrong = (~same).any(dim=-1).any(dim=0)
    return LogitDrift(position=int(wrong.nonzero()[0]), max_abs=difference(found, expected).max_abs)
