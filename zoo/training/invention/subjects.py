"""What new requests are about: a word of the tokenizer's own vocabulary for each.

Records that are begun alike would all go on about the same; a word drawn at random sends each elsewhere. A
base's vocabulary holds the words that its training text was full of, in its languages, and needs no list.
"""

import random
import re
from collections.abc import Sequence
from functools import cached_property

from zoo.prompts import Prompter

TITLE = "Subject"
OWN = 0.5  # share of the samples' own subjects
_WORD = re.compile(r"[^\W\d_]{5,}")


class Subjects:
    """The words of a vocabulary."""

    def __init__(self, prompter: Prompter) -> None:
        """Reads nothing yet."""
        self._prompter = prompter

    @cached_property
    def words(self) -> dict[str, int]:
        """Whole words of at least five letters, and their ids; a merge made late is a rarer word."""
        tokenizer = self._prompter.tokenizer
        ids = range(tokenizer.get_vocab_size(with_added_tokens=False))
        texts: list[str] = tokenizer.decode_batch([[id] for id in ids], skip_special_tokens=False)
        return {
            text.strip(): id
            for id, text in zip(ids, texts, strict=True)
            if text[:1].isspace() and _WORD.fullmatch(text.strip())
        }

    def of(self, text: str) -> str:
        """The rarest known word of a text; its longest where none is known."""
        words = _WORD.findall(text)
        known = [word for word in words if word in self.words]
        found: str = (
            max(known, key=lambda word: self.words[word]) if known else max(words, key=len, default="")
        )
        return found

    def drawn(self, numbers: random.Random, own: Sequence[str]) -> str:
        """A subject: as often one of the samples' as a word of the vocabulary.

        Args:
            numbers: of the choice.
            own: the samples' subjects; what all of them are about shall not get lost.
        """
        pool = own if not self.words or numbers.random() < OWN else list(self.words)
        return numbers.choice(pool)
