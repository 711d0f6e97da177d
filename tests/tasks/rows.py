"""The tasks' rows: what a caller would send, and the answer that is wanted."""

import random
import re
from collections.abc import Sequence

from tests.demo.relevance_data import read_pairs
from tests.tasks.texts import (
    ENCYCLOPAEDIA,
    WEB,
    Row,
    Split,
    articles,
    asked,
    divided,
    headlines,
    plain,
    unlike,
)

BLOCK = 5  # passages whose questions are exchanged: one group, so no question is in two parts
REQUIREMENTS = {
    "It names a day of the week.": r"\b(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b",
    "It names a month.": r"\b(January|February|March|April|June|July|August|September|October|November"
    r"|December)\b",
    "It gives a year in digits.": r"\b(1[89]|20)\d\d\b",
    "It has words in quotation marks.": r'["“”]',
    "It asks a question.": r"\?",
    "It speaks to the reader as you.": r"\b[Yy]our?\b",
    "It is told in the first person.": r"\b(I|my|me|we|our|us|My|We|Our)\b",
    "It has something in brackets.": r"\(",
}


def relevance() -> Split:
    """A passage with its own question, and with another's."""
    pairs = read_pairs(360)
    blocks = [pairs[begin : begin + BLOCK] for begin in range(0, len(pairs) - BLOCK + 1, BLOCK)]
    return divided(blocks, 22, _relevance)


def _relevance(blocks: Sequence[Sequence[tuple[str, str]]], drawn: random.Random) -> list[Row]:
    made = []
    for block in blocks:
        group, step = f"block {block[0][0][:40]}", drawn.randrange(1, len(block))
        for index, (passage, own) in enumerate(block):
            other = block[(index + step) % len(block)][1]
            document = [{"doc_id": "1", "text": passage}]
            for question, answer in ((own, "relevant"), (other, "irrelevant")):
                made.append({"messages": asked(question), "documents": document, "answer": answer})
                made[-1]["group"] = group
    return made


def satire() -> Split:
    """Headlines, half of them satirical."""
    chosen = headlines()[:6000]
    return divided(chosen, 1000, _satire)


def _satire(chosen: Sequence[tuple[str, bool]], _: random.Random) -> list[Row]:
    return _told_apart([(text, "satire" if satirical else "news") for text, satirical in chosen])


def register() -> Split:
    """Beginnings of an encyclopaedia's articles and of web pages, half of each."""
    found = {
        plain(text): answer
        for answer, source in (("encyclopaedia", ENCYCLOPAEDIA), ("web", WEB))
        for text in articles(200, 60, source)
    }
    chosen = [(text, found[text]) for text in unlike(list(found), words=8)]
    return divided(chosen, 400, lambda part, _: _told_apart(part))


def _told_apart(labelled: Sequence[tuple[str, str]]) -> list[Row]:
    """Texts with one of two answers in turn, as many of one as of the other."""
    answers = sorted({answer for _, answer in labelled})
    sides = [[text for text, answer in labelled if answer == wanted] for wanted in answers]
    return [
        {"messages": asked(text), "answer": answer, "group": text}
        for pair in zip(*sides, strict=False)
        for text, answer in zip(pair, answers, strict=True)
    ]


def requirements() -> Split:
    """Beginnings of articles, each with requirements that it meets or does not: half of each."""
    return divided(articles(300, 80), 230, _requirements)


def _requirements(texts: Sequence[str], drawn: random.Random) -> list[Row]:
    made = []
    for requirement, pattern in REQUIREMENTS.items():
        meets = [text for text in texts if re.search(pattern, text)]
        lacks = drawn.sample([text for text in texts if not re.search(pattern, text)], len(meets))
        for text, answer in [*((text, "yes") for text in meets), *((text, "no") for text in lacks)]:
            said = [*asked("Write the beginning of an article."), {"role": "assistant", "content": text}]
            made.append({"messages": said, "arguments": {"requirement": requirement}})
            made[-1] |= {"answer": {"score": answer}, "group": text}
    drawn.shuffle(made)
    return made


def misspellings() -> Split:
    """Beginnings of articles in which one word is misspelt, twice each."""
    return divided(articles(200, 60), 200, _misspellings)


def _misspellings(texts: Sequence[str], drawn: random.Random) -> list[Row]:
    known = {word for text in articles(200, 60) for word in re.findall(r"\w+", text.lower())}
    made = []
    for text in texts:
        words = sorted({word for word in re.findall(r"\b[a-z]{5,12}\b", text) if text.count(word) == 1})
        for word in drawn.sample(words, min(2, len(words))):
            if (wrong := misspelt(word, drawn)) not in known:
                answer = {"wrong": wrong, "right": word}
                made.append({"messages": asked(text.replace(word, wrong)), "answer": answer, "group": text})
    return made


def misspelt(word: str, drawn: random.Random) -> str:
    """A word with two inner letters exchanged, or one left out, or one said twice."""
    place = drawn.randrange(1, len(word) - 2)
    head, one, two, tail = word[:place], word[place], word[place + 1], word[place + 2 :]
    kinds = [head + two + one + tail, head + two + tail, head + one + one + two + tail]
    return drawn.choice([made for made in kinds if made != word])
