"""A data file divided and encoded: what is trained on, what chooses the best step, what is only measured."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import SpecError
from zoo.prompts import Invocation, Prompter
from zoo.training.dataset import Dataset, Encoded, Sample, Truncation, encode, read_dataset, split

if TYPE_CHECKING:
    from zoo.training.contract import Contract
    from zoo.training.metric import Read


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
        pooled: digests of all files whose groups were divided together with these.
        read: how replies to the samples of `train` and `validation` are read, under a contract; see
            `zoo.training.metric`.
        read_held_out: the same of `held_out`, whose lines may be another file's.
    """

    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    held_out: Sequence[Encoded]
    sha256: str
    eval_sha256: str
    pooled: Sequence[str] = ()
    read: "Read | None" = None
    read_held_out: "Read | None" = None


def _check_apart(data: Dataset, evaluation: Dataset) -> None:
    """Refuses evaluation data that share a prompt or a group with what is trained on: it is not held out."""
    prompts = {_prompt(sample): sample.line for sample in data.samples}
    groups = {sample.group: sample.line for sample in data.samples}
    for sample in evaluation.samples:
        for what, seen in (("prompt", prompts.get(_prompt(sample))), ("group", groups.get(sample.group))):
            if seen is not None:
                raise SpecError(
                    f"{evaluation.name}, line {sample.line} has the {what} of {data.name}, line {seen}: "
                    "what is trained on cannot be measured on",
                    code="ZD002",
                    hint=f"take the shared {what}s out of one file, or leave --eval-data out",
                )


def _prompt(sample: Sample) -> str:
    return json.dumps([sample.messages, sample.documents, sample.arguments], sort_keys=True)


def divide(
    data: Path,
    prompter: Prompter,
    invocation: Invocation,
    settings: DataSettings,
    *,
    seed: int,
    adapter: str = "",
    eval_adapter: str = "",
    pooled: Sequence[Path] = (),
    contract: "Contract | None" = None,
) -> Parts:
    """Reads, divides and encodes a data file.

    Args:
        data: JSONL of prompts and answers.
        prompter: of the base model.
        invocation: must occur in every prompt.
        settings: how.
        seed: of both draws.
        adapter: whose lines are meant, in files whose lines say it; empty where they must not.
        eval_adapter: the same of the evaluation data.
        pooled: files whose groups are divided together, so that several adapters hold out the same ones.
        contract: the adapter's `io.yaml`, or None.

    Raises:
        NotFoundError: no such file.
        SpecError: ZD001 or ZD002, the data breaks its form or is too little; or the code with which the
            contract refuses a sample, naming its line.
        RefusedError: ZI004 or ZD003, naming the line whose prompt lacks the invocation or is too long.
    """
    values = contract is not None
    files = {path: read_dataset(path, values=values) for path in dict.fromkeys((data, *pooled))}
    dataset = _of_adapter(files[data], adapter)
    everything = [sample for file in files.values() for sample in file.samples]
    if settings.eval_data:
        evaluation = _of_adapter(read_dataset(settings.eval_data, values=values), eval_adapter)
        inside, outside = list(dataset.samples), list(evaluation.samples)
        _check_apart(dataset, evaluation)
    else:
        evaluation = dataset
        groups = {sample.group for sample in everything}
        inside, outside = split(dataset.samples, held_out=settings.held_out, seed=seed, groups=groups)
        everything, _ = split(everything, held_out=settings.held_out, seed=seed)
    groups = {sample.group for sample in everything}
    train, validation = split(inside, held_out=settings.validation, seed=seed + 1, groups=groups)
    if settings.validation > 0 and not validation:
        raise _unchosen(dataset.name, adapter)
    train = train[: settings.max_samples or None]
    encoded = [
        encode(
            part, prompter, invocation, name=name, max_tokens=settings.max_tokens,
            truncate=settings.truncate, contract=contract,
        )
        for part, name in ((train, dataset.name), (validation, dataset.name), (outside, evaluation.name))
    ]  # fmt: skip
    return Parts(
        train=encoded[0],
        validation=encoded[1],
        held_out=encoded[2],
        sha256=dataset.sha256,
        eval_sha256=evaluation.sha256,
        pooled=[file.sha256 for file in files.values()] if pooled else (),
        read=contract.reader(inside) if contract else None,
        read_held_out=contract.reader(outside) if contract else None,
    )


def _unchosen(name: str, adapter: str) -> SpecError:
    """What is wrong where the groups are divided for several adapters, and one has no sample in some."""
    return SpecError(
        f"{name} holds no samples of the adapter {adapter!r} in the groups on which the best step is chosen",
        hint="give it more of the groups that the adapters share, or train it alone",
        code="ZD002",
    )


def _of_adapter(data: Dataset, adapter: str) -> Dataset:
    """The samples of one adapter; without a name no line may have one."""
    for sample in data.samples:
        if bool(sample.adapter) is not bool(adapter):
            what = "lacks `adapter`" if adapter else f"is of the adapter {sample.adapter!r}"
            raise SpecError(
                f"{data.name}, line {sample.line} {what}",
                code="ZD001",
                hint="with --adapters every line of a common file says whose it is, without it none does",
            )
    samples = tuple(sample for sample in data.samples if sample.adapter == adapter)
    if not samples:
        raise SpecError(f"{data.name} holds no samples of the adapter {adapter!r}", code="ZD001")
    return Dataset(name=data.name, samples=samples, sha256=data.sha256)
