"""What a decoded text has to keep to, asked token by token."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Constraint(Protocol):
    """The state of one constrained decoding; a new one for every generation."""

    @property
    def finished(self) -> bool:
        """Whether nothing may follow: decoding stops."""

    def allowed(self) -> "Tensor | None":
        """Which tokens may come next: bool `[vocabulary]` or shorter, None when all may.

        Ids beyond its end may not. Ids that end a turn are in it where the text may end.
        """

    def advance(self, token: int) -> None:
        """Takes note of a decoded token; never one that ends a turn."""
