"""Context relevance over real passages: was this question asked about this passage?

The passages and questions are those of `unsolvable_questions` in the PyPI package `evals`, which `make env`
installs; nothing of their text is kept in this project. Every passage gives two samples: with its own
question the answer is "yes", with another passage's it is "no". A passage is cut after whole sentences, which
keeps a training step on two cores short.

Run: python -m tests.demo.relevance_data OUT   writes OUT/train.jsonl and OUT/test.jsonl
     --train-passages N, --test-passages N     only the first of each, for less time
"""

import argparse
import json
import random
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

PACKAGE_FILE = "unsolvable_questions/samples.jsonl"
MARK = "\n Context: "
INVOCATION = "<|im_start|>check\n"
MAX_CHARACTERS = 360
TEST_PASSAGES = 110
SEED = 0


class Sample(TypedDict):
    messages: list[dict[str, str]]
    answer: str
    group: str


def make(
    *, max_characters: int = MAX_CHARACTERS, test_passages: int = TEST_PASSAGES, seed: int = SEED
) -> tuple[list[Sample], list[Sample]]:
    """Training and test samples; no passage and no question is in both."""
    pairs = read_pairs(max_characters)
    random.Random(seed).shuffle(pairs)
    return _samples(pairs[test_passages:], "train", seed), _samples(pairs[:test_passages], "test", seed)


def read_pairs(max_characters: int) -> list[tuple[str, str]]:
    """(passage, question) with every passage and every question once, in the file's order."""
    pairs: dict[str, str] = {}
    for line in evals_file(PACKAGE_FILE).read_text(encoding="utf-8").splitlines():
        question, _, passage = json.loads(line)["input"][1]["content"].partition(MARK)
        cut = first_sentences(passage.strip(), max_characters)
        if cut and question not in pairs.values():
            pairs.setdefault(cut, question)
    return [(passage, question.removeprefix("Question: ").strip()) for passage, question in pairs.items()]


def evals_file(name: str) -> Path:
    """A data file of the package `evals`."""
    spec = find_spec("evals")
    if spec is None or spec.origin is None:
        raise SystemExit("the package `evals` is missing: pip install --no-deps evals==3.0.1.post1")
    return Path(spec.origin).parent / "registry" / "data" / name


def first_sentences(text: str, max_characters: int) -> str:
    """As many whole sentences as fit; empty when not one does."""
    ends = [m.end() for m in re.finditer(r"[.!?](?=\s|$)", text) if m.end() <= max_characters]
    return text[: ends[-1]] if ends else ""


def _samples(pairs: list[tuple[str, str]], part: str, seed: int) -> list[Sample]:
    questions = [question for _, question in pairs]
    step = random.Random(seed + 1).randrange(1, len(pairs))  # rotating by it gives each question away once
    samples = []
    for index, (passage, own) in enumerate(pairs):
        other = questions[(index + step) % len(pairs)]
        for question, answer in ((own, "yes"), (other, "no")):
            content = f"Passage: {passage}\n\nQuestion: {question}"
            samples.append(
                Sample(
                    messages=[{"role": "user", "content": content}], answer=answer, group=f"{part}-{index}"
                )
            )
    return samples


def write(
    folder: Path, *, train_passages: int | None = None, test_passages: int | None = None
) -> tuple[Path, Path]:
    """Writes train.jsonl and test.jsonl into `folder`, of so many passages (all when None)."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.jsonl", folder / "test.jsonl"
    for path, samples, passages in zip(paths, make(), (train_passages, test_passages), strict=True):
        wanted = samples if passages is None else samples[: 2 * passages]
        lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in wanted)
        path.write_text("".join(lines), encoding="utf-8")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the demo's data.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--train-passages", type=int)
    parser.add_argument("--test-passages", type=int)
    options = parser.parse_args()
    for path in write(
        options.out, train_passages=options.train_passages, test_passages=options.test_passages
    ):
        print(path)


if __name__ == "__main__":
    main()
