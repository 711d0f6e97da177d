"""Generating without a cache, as most callers do: PEFT looks for the invocation in the whole prompt."""

from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.prompts import Prompt
from zoo.validators.conformance.decoding import NEW_TOKENS, Decoding, judge

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session


def decode_from_scratch(session: "Session", prompt: Prompt) -> Decoding:
    """Decodes up to `NEW_TOKENS` tokens with PEFT's `generate`, and asks the reference in one whole run."""
    import torch

    ids = session.tensor([prompt.ids])
    output = peft_model.generate(
        session.peft,
        ids,
        attention_mask=ids.new_ones(ids.shape),
        max_new_tokens=NEW_TOKENS,
        end_ids=session.end_ids,
        pad_id=session.pad_id,
    )
    read, found = output[:, :-1], output[0, ids.shape[1] :]
    active = torch.arange(read.shape[1], device=read.device)[None] >= prompt.start
    judged = session.reference.log_probs(read, active)[0, ids.shape[1] - 1 :]
    return judge(found, judged)
