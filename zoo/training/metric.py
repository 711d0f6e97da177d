"""How good an adapter is at its own task while it is trained, and its loss, on validation samples.

closed answers        balanced accuracy: the mean over the answers of how often each is found, the likeliest
                      being taken. Always giving the commonest answer is worth no more than guessing.
structured answers    when every expected answer is a JSON object: the share of fields that are right.
other answers         the share of answers that are word for word as expected.

The last two decode greedily, which takes a pass a token: at most 32 samples are decoded.

The metric decides which step is kept where it is measured on at least 100 samples. Of fewer it says little:
one answer more or less, and an untrained adapter would win by luck. There the loss decides, to which every
token of every sample adds; the metric is shown all the same.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean as mean
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError
from zoo.evaluation.answers import accuracy, answer_all, choices, option_scores
from zoo.training.course import Look
from zoo.training.dataset import Encoded
from zoo.training.prefix import PrefixStore, answer_loss, by_row, held_batches
from zoo.training.share import StorePart

if TYPE_CHECKING:
    Ids = tuple[int, ...]

DECODED = 32
DECISIVE = 100  # samples; the standard error of a share is then at most five points
Read = Callable[[str, int], Any]


def read_json(text: str, _line: int) -> Any:
    """A reply that is plain JSON, as its value."""
    return json.loads(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A task's own metric.

    Attributes:
        options: the closed set of answers, or None.
        decode: token ids to text, without special tokens.
        read: a reply's text, and its sample's line in the data file, to the reply's value; raises ValueError
            or ContractError where it is malformed. That of an I/O contract knows the sample's request.
    """

    options: "Sequence[Ids] | None"
    decode: "Callable[[Sequence[int]], str]"
    read: Read = read_json

    @classmethod
    def of(
        cls, answers: "Sequence[Ids]", decode: "Callable[[Sequence[int]], str]", read: Read | None = None
    ) -> "Metric":
        """The metric that fits the answers of a task, end tokens included."""
        return cls(options=choices(answers), decode=decode, read=read or read_json)

    def look(self, store: PrefixStore) -> Look:
        """Measures the weights as they are now; what decides between two looks is the first of its values."""
        if self.options is None:
            loss = mean_loss(store)
            values = self._open(store)
        else:
            values, loss = closed(store, self.options)
        first = next(iter(values.values()))
        if not decides(self.options, len(store.samples)):
            return Look(rank=(-loss, first), values={"loss": loss, **values})
        return Look(rank=(first, -loss), values={**values, "loss": loss})

    def scores(self, given: "Sequence[Ids]", samples: Sequence[Encoded]) -> tuple[str, list[float]]:
        """How good each of some answers is, so that others to the same samples can be compared in pairs.

        Args:
            given: answer ids.
            samples: what they answer.

        Returns:
            The measure's name (`accuracy` of closed answers, else `field_match` or `exact_match`), and a
            value between 0 and 1 a sample.
        """
        if self.options is not None:
            pairs = zip(given, samples, strict=True)
            return "accuracy", [float(ids == sample.answer) for ids, sample in pairs]
        replies = [self.decode(ids) for ids in given]
        answers = [self.decode(sample.answer) for sample in samples]
        wanted = [_read(text, one.line, self.read) for text, one in zip(answers, samples, strict=True)]
        if not _have_fields(wanted):
            return "exact_match", _same_texts(replies, answers)
        found = [_read(text, one.line, self.read) for text, one in zip(replies, samples, strict=True)]
        return "field_match", [_fields(one, two) for one, two in zip(found, wanted, strict=True)]

    def _open(self, store: PrefixStore) -> dict[str, float]:
        decoded = StorePart(store, 0, DECODED)
        expected = [sample.answer for sample in decoded.samples]
        given = answer_all(decoded, None)
        return structured(
            [self.decode(ids) for ids in given],
            [self.decode(ids) for ids in expected],
            self.read,
            lines=[sample.line for sample in decoded.samples],
        )


def decides(options: "Sequence[Ids] | None", samples: int) -> bool:
    """Whether the metric chooses the best step of a run with so many validation samples, or the loss."""
    return (samples if options is not None else min(DECODED, samples)) >= DECISIVE


def structured(
    given: Sequence[str], expected: Sequence[str], read: Read = read_json, *, lines: Sequence[int] = ()
) -> dict[str, float]:
    """How far replies are what was expected, as structures where all expected answers are JSON objects.

    Args:
        given: replies as text.
        expected: answers as text.
        read: see `Metric`.
        lines: of the data file, of each pair; 0 when left out.

    Returns:
        `field_match`, the mean share of an answer's fields that a reply has with the same value;
        `exact_match`, the share of replies that are equal to the answer; `structured`, the share of replies
        that can be read and have the answer's fields. For other answers `exact_match` alone.
    """
    places = lines or [0] * len(expected)
    wanted = [_read(text, line, read) for text, line in zip(expected, places, strict=True)]
    if not _have_fields(wanted):
        return {"exact_match": mean(_same_texts(given, expected))}
    found = [_read(text, line, read) for text, line in zip(given, places, strict=True)]
    pairs = list(zip(found, wanted, strict=True))
    shapes = [isinstance(reply, Mapping) and reply.keys() == answer.keys() for reply, answer in pairs]
    return {
        "field_match": mean([_fields(reply, answer) for reply, answer in pairs]),
        "exact_match": mean([reply == answer for reply, answer in pairs]),
        "structured": mean(shapes),
    }


def _have_fields(wanted: Sequence[Any]) -> bool:
    return all(isinstance(value, Mapping) and value for value in wanted)


def _fields(reply: Any, answer: Mapping[str, Any]) -> float:
    """The share of an answer's fields that a reply has with the same value."""
    if not isinstance(reply, Mapping):
        return 0.0
    return mean([bool(key in reply and reply[key] == value) for key, value in answer.items()])


def _same_texts(given: Sequence[str], expected: Sequence[str]) -> list[float]:
    return [float(one.strip() == two.strip()) for one, two in zip(given, expected, strict=True)]


def closed(store: PrefixStore, options: "Sequence[Ids]") -> tuple[dict[str, float], float]:
    """Balanced accuracy and accuracy among a closed set of answers, and the mean loss.

    Args:
        store: validation samples, whose answers are among the options.
        options: answer ids.

    Returns:
        The values, and the loss in nats a token: the options' log-probabilities give all of them.
    """
    expected = [sample.answer for sample in store.samples]

    def score(rows: list[int]) -> list[list[float]]:
        found: list[list[float]] = option_scores(store, rows, options).tolist()
        return found

    lines = by_row(store, score)
    given = [options[max(range(len(options)), key=line.__getitem__)] for line in lines]
    total = -sum(line[options.index(wanted)] for line, wanted in zip(lines, expected, strict=True))
    loss = total / sum(map(len, expected))
    return {"balanced_accuracy": balanced(given, expected), "accuracy": accuracy(given, expected)}, loss


def balanced(given: "Sequence[Ids]", expected: "Sequence[Ids]") -> float:
    """Balanced accuracy: the mean recall of the answers that are expected at least once."""
    right: dict[Ids, list[bool]] = defaultdict(list)
    for one, wanted in zip(given, expected, strict=True):
        right[wanted].append(one == wanted)
    return sum(sum(found) / len(found) for found in right.values()) / len(right)


def mean_loss(store: PrefixStore) -> float:
    """Mean cross-entropy of the samples' answers, nats a token."""
    import torch

    with torch.no_grad():
        mine = sum(float(answer_loss(store, rows)) for rows in held_batches(store))
    return sum(store.peers.gather(mine)) / sum(len(sample.answer) for sample in store.samples)


def _read(text: str, line: int, read: Read) -> Any:
    try:
        return read(text, line)
    except (ValueError, ContractError, RecursionError):
        return None
