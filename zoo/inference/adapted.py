"""One adapter, ready to continue the base model's prefixes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zoo.errors import UndecidedError, UsageError
from zoo.inference.constraint import Constraint
from zoo.inference.continuation import Continuation
from zoo.inference.decoding import Decoding, Generated
from zoo.inference.prefix import Prefix

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class Adapted:
    """The base with an adapter merged into a few of its weights, or the base itself.

    From `SharedBase.adapter` and `SharedBase.plain`. All of one base share one continuation: they take turns,
    and none may be called while another is at work.
    """

    def __init__(self, model: "PreTrainedModel", continuation: Continuation) -> None:
        """Pairs a shell with the place where its tokens are computed.

        Args:
            model: a shell over the base.
            continuation: shared by all adapters of the base.
        """
        self.model = model
        self._continuation = continuation

    def logits(self, prefix: Prefix, ids: Sequence[int]) -> "Tensor":
        """Runs a suffix behind a prefix in one call.

        Args:
            prefix: from `SharedBase.prefill`; it is left as it is, bit for bit.
            ids: at least one token.

        Returns:
            Logits, float32 `[tokens, vocabulary]`.

        Raises:
            UsageError: there are no ids.
            UndecidedError: the logits are not numbers.
        """
        self._begin(prefix, ids, 0)
        logits = self._continuation.step(self.model, ids, last=False).float().clone()
        if bool(logits.isnan().any()):
            self._continuation.wipe()
            raise UndecidedError("the model's logits are not numbers", hint="zoo validate, or another dtype")
        return logits

    def generate(
        self,
        prefix: Prefix,
        ids: Sequence[int],
        *,
        max_new_tokens: int,
        end_ids: Sequence[int],
        constraint: Constraint | None = None,
        temperature: float = 0.0,
        top_logprobs: int = 0,
        on_token: Callable[[int], None] | None = None,
    ) -> Generated:
        """Decodes behind a prefix and a suffix.

        Args:
            prefix: from `SharedBase.prefill`; it is left as it is, bit for bit.
            ids: the suffix, at least one token.
            max_new_tokens: decoded at most.
            end_ids: ids that end a turn; they are not part of what is returned.
            constraint: what the text keeps to; used up by the call.
            temperature: 0 is greedy; else sampled with torch's generator.
            top_logprobs: how many log-probabilities are wanted for each token.
            on_token: told of each token as it is decoded.

        Raises:
            UsageError: there are no ids.
            UndecidedError: the logits are not numbers.
            DefectError: the constraint allows no token.
        """
        decoding = Decoding(
            max_new_tokens=max_new_tokens,
            end_ids=end_ids,
            constraint=constraint,
            temperature=temperature,
            top_logprobs=top_logprobs,
            on_token=on_token,
        )
        self._begin(prefix, ids, max_new_tokens)
        try:
            return decoding.run(ids, lambda row: self._continuation.step(self.model, row, last=True)[-1])
        except UndecidedError:
            self._continuation.wipe()
            raise

    def _begin(self, prefix: Prefix, ids: Sequence[int], more: int) -> None:
        if not ids:
            raise UsageError("a suffix of no tokens was given", hint="an invocation has at least one")
        self._continuation.begin(prefix, room=len(ids) + more)
