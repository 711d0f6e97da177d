"""A vector's rows as a rectangle: padded, with what is decoded behind it, cut into calls. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from zoo.validators.conformance.vectors.case import Case
from zoo.validators.conformance.vectors.rules import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Rows of equal length.

    Attributes:
        ids: with padding and decoded tokens.
        real: 1 where there is a token, 0 where there is padding.
        first: per row, the index of its first token; what is decoded follows the padded prompt.
        calls: tokens of each call; they add up to a row's length. Each decoded token is a call.
    """

    ids: tuple[tuple[int, ...], ...]
    real: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]
    calls: tuple[int, ...]

    @classmethod
    def of(cls, case: Case) -> "Layout":
        """Lays out a vector."""
        ids, real, first = [], [], []
        for row in case.rows:
            fill = case.width - row.prompt
            pads = (case.padding.id if case.padding else 0,) * fill
            prompt, decoded = row.ids[: row.prompt], row.ids[row.prompt :]
            left = case.padding is not None and case.padding.side == "left"
            ids.append((*pads, *prompt, *decoded) if left else (*prompt, *pads, *decoded))
            ones, zeros = (1,) * row.prompt, (0,) * fill
            real.append((zeros + ones if left else ones + zeros) + (1,) * len(decoded))
            first.append(fill if left else 0)
        decoded_tokens = len(ids[0]) - case.width
        calls = (*(case.calls or (case.width,)), *(1,) * decoded_tokens)
        return cls(ids=tuple(ids), real=tuple(real), first=tuple(first), calls=calls)

    def spread(self, plans: Sequence[Plan]) -> list[list[str | None]]:
        """The rows' plans, with no adapter on padding."""
        found = []
        for plan, real in zip(plans, self.real, strict=True):
            acting = iter(plan)
            found.append([next(acting) if one else None for one in real])
        return found

    def gathered(self, wide: Sequence[Sequence[str | None]]) -> tuple[Plan, ...]:
        """The plans of the rows' own tokens, out of rows with padding."""
        return tuple(
            tuple(one for one, real in zip(acting, mask, strict=True) if real)
            for acting, mask in zip(wide, self.real, strict=True)
        )

    def index(self, row: int, position: int) -> int:
        """Where the token at a position of a row stands in the rectangle."""
        return [at for at, real in enumerate(self.real[row]) if real][position]
