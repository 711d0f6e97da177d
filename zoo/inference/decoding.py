"""Decoding token by token: greedy or sampled, under a constraint, with log-probabilities."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from zoo.errors import DefectError, UndecidedError
from zoo.inference.constraint import Constraint

if TYPE_CHECKING:
    from torch import Tensor

Top = list[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What was decoded.

    Attributes:
        ids: without the id that ended it.
        top: for each of them the most likely ids with their log-probabilities, the best first: among what the
            constraint allows there, before temperature. A decoded id that is not among them comes last. vLLM
            does so: it masks the logits before its sampler takes `raw_logprobs`
            (vllm-project/vllm, v1/worker/gpu/model_runner.py, `sample`).
        stopped: by an id that ends a turn, by the limit, or because the constraint lets nothing follow.

    Source: vLLM's `raw_logprobs` are taken after the grammar's bitmask as well (vllm-project/vllm,
    v1/worker/gpu/model_runner.py, `sample`).
    """

    ids: list[int]
    top: list[Top]
    stopped: Literal["end", "length", "constraint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How to decode.

    Attributes:
        max_new_tokens: decoded at most.
        end_ids: ids that end a turn.
        constraint: what the text keeps to.
        temperature: 0 is greedy; else sampled with torch's generator.
        top_logprobs: how many log-probabilities are wanted for each token.
        on_token: told of each token as it is decoded.
    """

    max_new_tokens: int
    end_ids: Sequence[int] = ()
    constraint: Constraint | None = None
    temperature: float = 0.0
    top_logprobs: int = 0
    on_token: Callable[[int], None] | None = field(default=None, repr=False)

    def run(self, ids: Sequence[int], step: Callable[[Sequence[int]], "Tensor"]) -> Generated:
        """Decodes.

        A token that the constraint leaves no choice about is not asked for: several of them in a row are run
        in one call, together with the next that is asked for.

        Args:
            ids: the suffix to begin with.
            step: runs tokens that follow all before; gives the last one's logits, `[vocabulary]`.

        Raises:
            UndecidedError: the model's logits are not numbers.
            DefectError: the constraint allows no token.
        """
        decoded: list[int] = []
        top: list[Top] = []
        waiting = list(ids)
        while len(decoded) < self.max_new_tokens:
            allowed = self.constraint.allowed() if self.constraint else None
            token = _only(allowed)
            found: Top = [(token, 0.0)] if token is not None and self.top_logprobs else []
            if token is None:
                token, logits = self._choose(step(waiting).float(), allowed)
                waiting, found = [], _top(logits, token, self.top_logprobs)
            if token in self.end_ids:
                return Generated(ids=decoded, top=top, stopped="end")
            decoded.append(token)
            top.append(found)
            waiting.append(token)
            if self.on_token:
                self.on_token(token)
            if self.constraint:
                self.constraint.advance(token)
                if self.constraint.finished:
                    return Generated(ids=decoded, top=top, stopped="constraint")
        return Generated(ids=decoded, top=top, stopped="length")

    def _choose(self, logits: "Tensor", allowed: "Tensor | None") -> "tuple[int, Tensor]":
        """The next id, and the logits of what is allowed."""
        import torch

        wrong = logits.isnan().any()
        if allowed is not None:
            allowed = allowed.to(logits.device)[: len(logits)]
            logits = logits[: len(allowed)].masked_fill(~allowed, -torch.inf)
        if self.temperature:
            odds = torch.softmax(logits / self.temperature, dim=-1)
            best = torch.multinomial(odds.nan_to_num(1.0), 1)[0]
        else:
            best = logits.argmax()
        token, bad = torch.stack([best, wrong.to(best.dtype)]).tolist()  # one wait for a GPU, not two
        if bad:
            raise UndecidedError("the model's logits are not numbers", hint="zoo validate, or another dtype")
        return int(token), logits


def _only(allowed: "Tensor | None") -> int | None:
    """The one id that is allowed, or None when there is a choice."""
    if allowed is None:
        return None
    count = int(allowed.count_nonzero())
    if not count:
        raise DefectError("the constraint on the decoded text allows no token")
    return int(allowed.int().argmax()) if count == 1 else None


def _top(logits: "Tensor", token: int, count: int) -> Top:
    if not count:
        return []
    log_probs = logits.log_softmax(dim=-1)
    values, ids = log_probs.topk(min(count, len(log_probs)))
    listed = zip(ids.tolist(), values.tolist(), strict=True)
    found = [(id, value) for id, value in listed if value > -math.inf]
    if token not in (id for id, _ in found):
        found.append((token, float(log_probs[token])))
    return found
