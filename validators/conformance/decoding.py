"""Greedy decoding on the base's cache by PEFT's own generate, and the reference's opinion of each token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.kv import empty_cache

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.validators.conformance.session import Session

NEW_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Tokens decoded after one prompt, and what the reference says of each.

    The reference reads the prompt and the decoded tokens in one call, every token after the start adapted: at
    each place it says what it would have decoded after the very same tokens.

    Attributes:
        found: PEFT's tokens.
        expected: the reference's choice at each place.
        regrets: by how much log-probability the reference prefers its choice to PEFT's; 0 where they agree.
        margins: by how much the reference's choice beats its runner-up.
    """

    found: tuple[int, ...]
    expected: tuple[int, ...]
    regrets: tuple[float, ...]
    margins: tuple[float, ...]

    def wrong(self, *, tie: float) -> int | None:
        """The first place at which PEFT's token is worse than the reference's by more than a tie, or None."""
        return next((place for place, regret in enumerate(self.regrets) if not regret <= tie), None)

    def decisive(self, *, tie: float) -> int:
        """How many of the places are no tie."""
        return sum(margin > tie for margin in self.margins)


def decode(session: "Session", prompt: Prompt) -> Decoding:
    """Decodes up to `NEW_TOKENS` tokens with PEFT's `generate` on the base's prefix cache."""
    made = session.rig.prefilled(prompt.prefix) if prompt.prefix else None
    ids = session.tensor([prompt.ids])
    output = peft_model.generate(
        session.peft,
        ids,
        attention_mask=ids.new_ones(ids.shape),
        max_new_tokens=NEW_TOKENS,
        end_ids=session.end_ids,
        pad_id=session.pad_id,
        cache=made.cache() if made else None,
    )
    found = output[0, ids.shape[1] :]
    # the last token is judged by what stands before it; nothing has to be read after it
    after = output[:, prompt.start : -1]
    active = after.new_ones(after.shape).bool()
    cache = made.cache() if made else empty_cache()
    judged = session.reference.log_probs(after, active, cache=cache)[0, len(prompt.suffix) - 1 :]
    return judge(found, judged)


def judge(found: "Tensor", judged: "Tensor") -> Decoding:
    """What the reference says of decoded tokens.

    Args:
        found: int64 `[tokens]`.
        judged: the reference's log-probabilities at each token's place, float32 `[tokens, vocabulary]`.
    """
    import torch

    best = judged.topk(2)
    regrets = best.values[:, 0] - judged.gather(1, found[:, None])[:, 0]
    return Decoding(
        found=tuple(found.tolist()),
        expected=tuple(best.indices[:, 0].tolist()),
        regrets=tuple(torch.where(regrets.isfinite(), regrets, torch.inf).tolist()),
        margins=tuple((best.values[:, 0] - best.values[:, 1]).tolist()),
    )
