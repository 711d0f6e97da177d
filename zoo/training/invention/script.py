"""A text with gaps: what stands between them is forced, and the model fills one after another."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TAIL = 4  # last ids in which the stop is looked for
Decode = Callable[[Sequence[int]], str]
_SENTENCE = re.compile(
    "[.!?\u2026\u3002\uff01\uff1f\u061f\u0964][\"'\u201d\u2019)\\]]*(?=\\s|$)|[\u3002\uff01\uff1f]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A gap, and what stands before it.

    Attributes:
        before: ids that are forced; of the first gap at least one.
        least: tokens before which it is not ended.
        most: tokens that may fill it; what is longer is cut behind its last whole sentence.
    """

    before: tuple[int, ...]
    least: int
    most: int


class Script:
    """A row that fills gaps one after another; a `zoo.training.invention.sampler.Row`.

    Attributes:
        texts: what fills the gaps so far, without blanks at the ends.
        failure: why it was given up; empty when it was not.
    """

    def __init__(
        self,
        gaps: Sequence[Gap],
        decode: Decode,
        *,
        stop: re.Pattern[str] | None,
        ends: Collection[int],
        prose: "Tensor",
    ) -> None:
        """Stands before the first gap.

        Args:
            gaps: at least one.
            decode: ids to text.
            stop: what ends a gap and is not of it; None when only an id does.
            ends: ids that end a gap.
            prose: ids with which a gap goes on for certain: bool `[vocabulary]`.
        """
        self._gaps = gaps
        self._decode = decode
        self._stop = stop
        self._ends = ends
        self._prose = prose
        self._waiting: list[int] = []
        self._filling: list[int] = []
        self.texts: list[str] = []
        self.failure = ""

    @property
    def ids(self) -> Sequence[int]:
        """What stands before the first gap."""
        return self._gaps[0].before

    @property
    def ended(self) -> bool:
        """Whether all gaps are filled, or one cannot be."""
        return bool(self.failure) or len(self.texts) == len(self._gaps)

    def forced(self) -> int | None:
        """The next id of what stands between two gaps."""
        return self._waiting[0] if self._waiting else None

    def allowed(self) -> "Tensor | None":
        """A gap is not ended before it has its least tokens."""
        return self._prose if len(self._filling) < self._gaps[len(self.texts)].least else None

    def take(self, token: int) -> int:
        """See `Row`."""
        if self._waiting:
            del self._waiting[0]
            return 0
        if token in self._ends:
            return 1 + self._close(len(self._filling))
        self._filling.append(token)
        if self._stop and self._stop.search(self._decode(self._filling[-TAIL:])):
            found = self._stop.search(self._decode(self._filling))
            return self._closed(found.start() if found else len(self._filling))
        if len(self._filling) < self._gaps[len(self.texts)].most:
            return 0
        last = [found.end() for found in _SENTENCE.finditer(self._decode(self._filling))]
        if not last:
            self.failure = "endless"
            return 0
        return self._closed(last[-1])

    def _closed(self, characters: int) -> int:
        """Ends the gap after so many characters at most, blanks at the end not counted."""
        wanted = self._decode(self._filling)[:characters].rstrip()
        count = len(self._filling)
        while count and len(self._decode(self._filling[:count]).rstrip()) > len(wanted):
            count -= 1
        while count and not self._decode(self._filling[count - 1 : count]).strip():
            count -= 1
        return self._close(count)

    def _close(self, kept: int) -> int:
        """Ends the gap with its first tokens: how many of it are taken back."""
        back = len(self._filling) - kept
        text = self._decode(self._filling[:kept]).strip()
        if not text:
            self.failure = "empty"
            return back
        self.texts.append(text)
        self._filling = []
        if not self.ended:
            self._waiting = list(self._gaps[len(self.texts)].before)
        return back
