"""A data file divided and encoded: what is trained on, what chooses the best step, what is only measured."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import SpecError
from zoo.prompts import Invocation, Prompter
from zoo.training.dataset import Dataset, Encoded, Truncation, encode, read_dataset, split


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """How a data file is divided and encoded.

    Attributes:
        held_out: share of the groups that is only measured on, unless `eval_data` is given.
        validation: share of the remaining groups on which the best step is chosen.
        eval_data: a data file of its own to measure on.
        max_samples: at most this many samples are trained on; 0 is all.
        max_tokens: longest sample.
        truncate: what happens to longer ones.
    """

    held_out: float = 0.2
    validation: float = 0.1
    eval_data: Path | None = None
    max_samples: int = 0
    max_tokens: int = 4096
    truncate: Truncation = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One data file, or two, divided and encoded.

    Attributes:
        train: samples with gradients.
        validation: samples on which the best step is chosen.
        held_out: samples that are only measured on; never in the other two.
        sha256: digest of the data file.
        eval_sha256: digest of the file the held-out samples came from.
    """

    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    held_out: Sequence[Encoded]
    sha256: str
    eval_sha256: str


def _check_apart(data: Dataset, evaluation: Dataset) -> None:
    """Refuses evaluation data that shares a prompt with the training data: it would not be held out."""
    lines = {json.dumps(sample.messages, sort_keys=True): sample.line for sample in data.samples}
    for sample in evaluation.samples:
        seen = lines.get(json.dumps(sample.messages, sort_keys=True))
        if seen is not None:
            raise SpecError(
                f"{evaluation.name}, line {sample.line} has the prompt of {data.name}, line {seen}: "
                "what is trained on cannot be measured on",
                code="ZD002",
                hint="take the shared prompts out of one file, or leave --eval-data out",
            )


def divide(
    data: Path, prompter: Prompter, invocation: Invocation, settings: DataSettings, *, seed: int
) -> Parts:
    """Reads, divides and encodes a data file.

    Args:
        data: JSONL of prompts and answers.
        prompter: of the base model.
        invocation: must occur in every prompt.
        settings: how.
        seed: of both draws.

    Raises:
        NotFoundError: no such file.
        SpecError: ZD001 or ZD002, the data breaks its form or is too little.
        RefusedError: ZI004 or ZD003, naming the line whose prompt lacks the invocation or is too long.
    """
    dataset = read_dataset(data)
    if settings.eval_data:
        evaluation = read_dataset(settings.eval_data)
        inside, outside = list(dataset.samples), list(evaluation.samples)
        _check_apart(dataset, evaluation)
    else:
        evaluation = dataset
        inside, outside = split(dataset.samples, held_out=settings.held_out, seed=seed)
    train, validation = split(inside, held_out=settings.validation, seed=seed + 1)
    if settings.max_samples:
        train = train[: settings.max_samples]
    encoded = [
        encode(
            part,
            prompter,
            invocation,
            name=name,
            max_tokens=settings.max_tokens,
            truncate=settings.truncate,
        )
        for part, name in ((train, dataset.name), (validation, dataset.name), (outside, evaluation.name))
    ]
    return Parts(
        train=encoded[0],
        validation=encoded[1],
        held_out=encoded[2],
        sha256=dataset.sha256,
        eval_sha256=evaluation.sha256,
    )
