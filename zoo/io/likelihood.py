"""`likelihood`: a literal becomes the mean of its categories' numbers, by its tokens' probabilities."""

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.errors import ContractError
from zoo.io.json_value import Path
from zoo.io.reply import WHERE, Reply, alternatives, begins_of, probability
from zoo.io.reply_text import Leaf

UNCERTAIN = 1e-3  # share of the probability that may be left out because no category is certain
_BEHIND = ",]} \t\n\r<"

Category = str | int | bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """A reply's tokens and where each begins in its text."""

    reply: Reply
    begins: list[int]

    @classmethod
    def of(cls, reply: Reply) -> "Tokens":
        """Reads a reply's tokens; raises ContractError ZO126 or ZO127."""
        return cls(reply, begins_of(reply))


def expected(leaf: Any, numbers: Mapping[Category, float], tokens: Tokens, path: Path) -> float:
    """The categories' numbers, weighed by the probabilities of their first deciding token.

    The walk begins at the token in which the value's first character stands and follows the reply's tokens as
    long as several categories begin with what was said. An alternative token counts for the one category that
    it can become; the reply's own tokens count for the literal. One that ends before the value (a lone quote)
    is left out, as long as all such are less likely than what counts.

    Args:
        leaf: the literal in the reply.
        numbers: by category.
        tokens: of the reply.
        path: where the literal stands in the reply.

    Returns:
        The mean of the numbers, with the probabilities scaled to a sum of 1.

    Raises:
        ContractError: ZO124, there is no literal of the reply at this place any more; ZO125, no category is
            what it says; ZO127, its tokens are malformed; ZO128, too much probability could be either of
            several categories, or there is none.

    Source: granite-common 0.4.1, intrinsics/output.py (TokenToFloat), which takes the first category that an
        alternative is a prefix of and the first token only.
    """
    if not isinstance(leaf, Leaf):
        raise ContractError(
            "what stands here is no literal of the reply, and has no tokens",
            path=path,
            hint="likelihood comes before transformations that make new values",
            code="ZO124",
        )
    said = _category(leaf, numbers, path)
    inside = leaf.begin + isinstance(leaf.value, str)
    first = bisect_right(tokens.begins, inside, hi=max(1, len(tokens.begins) - 1)) - 1
    weights, open_, form = _weigh(_Literal(leaf, said, list(numbers), tokens, first))
    total = sum(weights.values())
    if total <= form or open_ > UNCERTAIN * (total + open_):
        raise ContractError(
            "the probabilities cannot be shared out among the categories",
            path=path,
            hint="categories must differ in their first token; ask for more top_logprobs",
            code="ZO128",
        )
    return sum(weight / total * numbers[category] for category, weight in weights.items())


class _Literal:
    """What a literal's categories look like from the token on at which the walk begins."""

    def __init__(
        self, leaf: Leaf, said: Category, categories: list[Category], tokens: Tokens, first: int
    ) -> None:
        begin = tokens.begins[first]
        text = tokens.reply.text
        head = " " * -begin + text[max(begin, 0) : leaf.begin] if begin <= leaf.begin else ""
        cut = max(0, begin - leaf.begin)
        shown = {category: json.dumps(category, ensure_ascii=False) for category in categories}
        shown[said] = text[leaf.begin : leaf.end]  # as escaped in the reply
        self.targets = {category: head + look[cut:] for category, look in shown.items()}
        self.head = head
        self.opens = isinstance(leaf.value, str) and begin <= leaf.begin
        self.end = leaf.end
        self.said = said
        self.tokens = tokens
        self.first = first

    def could_be(self, text: str) -> list[Category]:
        """The categories that a reply which goes on with `text` may say."""
        loose = (
            text.lstrip() if self.head else text
        )  # white space before a value says nothing, in one it does
        return [
            category
            for category, target in self.targets.items()
            if _agrees(target, text) or (self.head and _agrees(target.lstrip(), loose))
        ]

    def is_before(self, text: str) -> bool:
        """Whether `text` ends before the value's first character, so that it is about the form only."""
        bare = text.strip()
        return not bare or len(bare) <= len(self.head.strip()) or (bare == '"' and self.opens)


def _weigh(literal: _Literal) -> tuple[dict[Category, float], float, float]:
    """Probability by category; of what may be several; of what ends before the value and says nothing."""
    weights: dict[Category, float] = {}
    open_, form, reached, text = 0.0, 0.0, 1.0, ""
    entries = literal.tokens.reply.tokens or []
    for index in range(literal.first, len(entries)):
        where = (*WHERE, literal.tokens.reply.first + index)
        for other, chance in alternatives(entries[index], where):
            found = literal.could_be(text + other) if other else []
            if len(found) == 1:
                weights[found[0]] = weights.get(found[0], 0.0) + reached * chance
            elif found and literal.is_before(text + other):
                form += reached * chance
            elif found:
                open_ += reached * chance
        reached *= probability(entries[index], where)
        text += entries[index]["token"]
        if literal.could_be(text) == [literal.said] or literal.tokens.begins[index + 1] > literal.end:
            break
    weights[literal.said] = weights.get(literal.said, 0.0) + reached
    return weights, open_, form


def _agrees(target: str, text: str) -> bool:
    if target.startswith(text):
        return True
    return text.startswith(target) and text[len(target)] in _BEHIND


def _category(leaf: Leaf, numbers: Mapping[Category, float], path: Path) -> Category:
    for category in numbers:
        if type(category) is type(leaf.value) and category == leaf.value:
            return category
    raise ContractError(
        f"the contract has no number for {json.dumps(leaf.value)[:80]}",
        path=path,
        hint="add it to categories_to_values, in the type that the reply's schema gives it",
        code="ZO125",
    )
