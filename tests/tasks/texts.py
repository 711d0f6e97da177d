"""Real text from the PyPI package `evals`, which `make env` installs; none of it is kept in this project."""

import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from tests.demo.relevance_data import evals_file, first_sentences

Row = dict[str, Any]  # a line of a project's data/requests.jsonl
Split = tuple[list[Row], list[Row]]  # to train on (and to choose the best step), held out


WEB, ENCYCLOPAEDIA = "owt_5", "wikipedia_5"
PLAIN = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")


@cache
def articles(longest: int, shortest: int, source: str = WEB) -> tuple[str, ...]:
    """Beginnings of articles in whole sentences, of so many characters; no two have much in common."""
    lines = evals_file(f"schelling_point/{source}.jsonl").read_text(encoding="utf-8").splitlines()
    texts = (first_sentences(" ".join(json.loads(line)["0"].split()), longest) for line in lines)
    return unlike([text for text in texts if len(text) >= shortest], words=8)


def plain(text: str) -> str:
    """A text in ASCII, typographic quotes as straight ones: two sources are not told apart by their bytes."""
    return text.translate(PLAIN).encode("ascii", "ignore").decode()


@cache
def headlines() -> tuple[tuple[str, bool], ...]:
    """Headlines in lower case, and whether each is from a satirical paper."""
    lines = evals_file("sarcasm/samples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    satirical = {" ".join(row["input"][-1]["content"].split()): row["ideal"] == "1" for row in rows}
    return tuple((text, satirical[text]) for text in unlike(list(satirical), words=5))


def unlike(texts: Sequence[str], *, words: int) -> tuple[str, ...]:
    """Texts in order, without those that have a run of so many words in common with an earlier one."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for text in texts:
        mine = runs(text, words)
        if not mine & seen:
            kept.append(text)
        seen |= mine
    return tuple(kept)


def runs(text: str, words: int) -> set[tuple[str, ...]]:
    """Every run of so many words of a text; a shorter text is one run."""
    said = re.findall(r"\w+", text.lower())
    return {tuple(said[begin : begin + words]) for begin in range(max(1, len(said) - words + 1))}


def divided(
    items: Iterable[Any], held_out: int, rows: Callable[[Sequence[Any], random.Random], list[Row]]
) -> Split:
    """Items in an order drawn from a fixed seed: `held_out` of them make the held-out rows, the rest train.

    Args:
        items: passages, articles, headlines; an item is never in both parts.
        held_out: how many.
        rows: makes one part's rows of its items alone.
    """
    drawn = random.Random(0)
    pool = list(items)
    drawn.shuffle(pool)
    return rows(pool[held_out:], drawn), rows(pool[:held_out], drawn)


def asked(content: str) -> list[dict[str, str]]:
    """A conversation of one user's message."""
    return [{"role": "user", "content": content}]
