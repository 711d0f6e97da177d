"""What an engine's numbers should be: our reference under one activation mask or another."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.activation import PEFT, Behaviour, Convention, active_mask

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.validators.conformance.session import Session

LEAST = 20  # tokens that an answer must have, as the protocol says
MUST_HAVE = 5  # of the likeliest tokens: these are compared even where an answer leaves them out
FLOOR = -40.0  # nats: less likely tokens are beyond what a float32 softmax can tell

RULE, EARLY, LATE = "the rule", "one token early", "one token late"
BASE, PLAIN = "the base model", "a plain LoRA on every token"


def candidates(ids: Sequence[int], invocation: Sequence[int]) -> dict[str, list[bool]]:
    """The masks that an engine may be running under, by name, likeliest first."""
    rule = active_mask(ids, invocation)
    return {
        RULE: rule,
        EARLY: _shifted(rule, -1),
        LATE: _shifted(rule, 1),
        BASE: [False] * len(ids),
        PLAIN: [True] * len(ids),
    }


def known_mask(ids: Sequence[int], invocation: Sequence[int], convention: Convention) -> list[bool]:
    """The mask of an engine's known convention; the rule's for one that was expected to refuse."""
    if convention.behaviour is Behaviour.REFUSED:
        convention = PEFT
    return active_mask(ids, invocation, convention)


def _shifted(mask: list[bool], by: int) -> list[bool]:
    if True not in mask:
        return mask
    first = max(0, mask.index(True) + by)
    return [position >= first for position in range(len(mask))]


class Expectations:
    """The reference's next-token log-probabilities under any mask; each is computed once."""

    def __init__(self, session: "Session") -> None:
        """Remembers the session; nothing is computed yet."""
        self._session = session
        self._known: dict[tuple[tuple[int, ...], tuple[bool, ...]], Tensor] = {}

    def along(self, ids: Sequence[int], mask: Sequence[bool], *, kept: int) -> None:
        """Computes what stands after each of the last `kept` tokens of `ids`, in one forward pass."""
        import torch

        session, count = self._session, len(ids)
        active = torch.tensor([list(mask)], device=session.model.device)
        found = (
            session.reference.log_probs(session.tensor([ids]), active, logits_to_keep=kept)[0].float().cpu()
        )
        for back, row in enumerate(reversed(found)):
            self._known[tuple(ids[: count - back]), tuple(mask[: count - back])] = row

    def after(self, ids: Sequence[int], mask: Sequence[bool]) -> "Tensor":
        """Log-probabilities after the last of `ids`: float32 `[vocabulary]`, on the CPU."""
        key = (tuple(ids), tuple(mask))
        if key not in self._known:
            self.along(ids, mask, kept=1)
        return self._known[key]


def distance(answer: Mapping[int, float], expected: "Tensor") -> float:
    """How far an engine's answer is from expected log-probabilities, in nats.

    Args:
        answer: log-probabilities by token id, of the likeliest tokens at least.
        expected: float32 `[vocabulary]`.

    Returns:
        The largest absolute difference over the answer's tokens; where one of the likeliest expected ones is
        not among them, at least what it must differ by. Infinite when the answer has too few tokens, names
        an id that does not exist, or is not finite.
    """
    import torch

    if len(answer) < min(LEAST, expected.shape[0]) or max(answer) >= expected.shape[0] or min(answer) < 0:
        return math.inf
    found, wanted = torch.tensor(list(answer.values())), expected[torch.tensor(list(answer))]
    if bool(found.isnan().any() | wanted.isnan().any()):
        return math.inf
    least = float(found.min())  # a token that is left out is at most that likely
    missing = [
        float(expected[number]) - least
        for number in expected.topk(MUST_HAVE).indices.tolist()
        if number not in answer
    ]
    common = float((found.clamp(min=FLOOR) - wanted.clamp(min=FLOOR)).abs().max())
    return max(common, *missing, 0.0)


def apart(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """How far two answers of an engine are apart, in nats, over the tokens that both have.

    Returns:
        As `distance`; the likeliest tokens of each count, whether or not the other has them.
    """
    if min(len(one), len(other)) < MUST_HAVE:
        return math.inf
    gaps = [abs(max(one[number], FLOOR) - max(other[number], FLOOR)) for number in one.keys() & other.keys()]
    for these, those in ((one, other), (other, one)):
        least = min(those.values())
        gaps += [these[number] - least for number in _first(these) if number not in those]
    return max(gaps) if all(map(math.isfinite, gaps)) else math.inf


def _first(answer: Mapping[int, float]) -> list[int]:
    return sorted(answer, key=answer.__getitem__, reverse=True)[:MUST_HAVE]
