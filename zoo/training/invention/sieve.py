"""Which written requests are used: the rules that what a small model writes has to pass, and how many did."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from statistics import median

from zoo.training.invention.exemplars import Exemplar

SHINGLE = 4  # words
ALIKE = 0.5  # share of a text's shingles that another has too, from which on it says the same
LOOP = 0.6  # share of a text's shingles that are different, below which it goes in circles
FOREIGN = 0.1  # share of letters of scripts that no sample has
SHORT = 3  # a piece is at least its samples' median length in words divided by this
LEAST = 3  # words of a conversation's question, where nothing says how long they are
_WORD = re.compile(r"\w+")


class Sieve:
    """Passes requests that are in the samples' form and unlike the ones before.

    Attributes:
        rejected: how many were not passed, by reason.
    """

    def __init__(self, exemplars: Sequence[Exemplar], *, foreign: Sequence[str]) -> None:
        """Knows the samples, none of which passes again.

        Args:
            exemplars: the samples.
            foreign: texts that no request may hold: the invocation, the base's special tokens.
        """
        self.rejected: Counter[str] = Counter()
        self._foreign = foreign
        self._lengths: dict[str, list[int]] = {}
        self._scripts: set[str] = set()
        self._seen: dict[tuple[str, ...], set[int]] = {}
        self._count = 0
        for one in exemplars:
            for part in one.written:
                self._lengths.setdefault(part.title, []).append(len(_WORD.findall(part.text)))
                self._scripts |= _scripts(part.text).keys()
            self.remember([part.text for part in one.written])

    def reject(self, reason: str) -> None:
        """Counts one that others did not pass."""
        self.rejected[reason] += 1

    def passes(self, exemplar: Exemplar, texts: Sequence[str]) -> bool:
        """Whether a new request is used; it is remembered then.

        Args:
            exemplar: of which its form is.
            texts: its written pieces.
        """
        reason = next(
            filter(
                None,
                (self._wrong(part.title, text) for part, text in zip(exemplar.written, texts, strict=True)),
            ),
            "",
        )
        if not reason and self._alike(texts):
            reason = "like another"
        if reason:
            self.reject(reason)
            return False
        self.remember(texts)
        return True

    def remember(self, texts: Sequence[str]) -> None:
        """Takes note of a request, so that none like it passes."""
        for shingle in _shingles(" ".join(texts)):
            self._seen.setdefault(shingle, set()).add(self._count)
        self._count += 1

    def _wrong(self, title: str, text: str) -> str:
        words = _WORD.findall(text)
        lengths = self._lengths.get(title)
        if len(words) < (median(lengths) / SHORT if lengths else LEAST):
            return "short"
        if any(one in text for one in self._foreign):
            return "special tokens"
        shingles = [tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)]
        if shingles and len(set(shingles)) < LOOP * len(shingles):
            return "in circles"
        scripts = _scripts(text)
        strange = sum(count for script, count in scripts.items() if script not in self._scripts)
        if self._scripts and strange > FOREIGN * scripts.total():
            return "other script"
        return ""

    def _alike(self, texts: Sequence[str]) -> bool:
        shingles = _shingles(" ".join(texts))
        common: Counter[int] = Counter()
        for shingle in shingles:
            common.update(self._seen.get(shingle, ()))
        return bool(common) and common.most_common(1)[0][1] > ALIKE * len(shingles)


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))}


def _scripts(text: str) -> Counter[str]:
    """Letters by script, which is the first word of their Unicode names: LATIN, CYRILLIC, CJK."""
    return Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
