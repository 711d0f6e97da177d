"""A data file out of nothing but a base model, a LoRA on it, and what is known of its requests.

The base writes requests (`drafting`), a sieve passes those in form (`sieve`), the LoRA on every token answers
them (`teacher`), and of a closed set of answers as many of each are taken (`balance`). Round after round is
noted in a work folder: a run that was killed goes on with the next, and ends with the same file.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.adapter import WEIGHTS_NAME
from zoo.errors import RefusedError, SpecError, UsageError
from zoo.models import BaseModel, Dtype, load_model
from zoo.peft_model import attach
from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompter
from zoo.provenance import sha256_bytes, sha256_file
from zoo.specs.lock import INVENTED, TrainingRecord
from zoo.specs.release import Position
from zoo.staging import write_file
from zoo.training.contract import Contract
from zoo.training.invention.balance import chosen, counts, enough
from zoo.training.invention.rounds import Rounds
from zoo.training.invention.samples import SampleRequests
from zoo.training.invention.writing import Writing
from zoo.training.original import original_teacher

LEAST = 16  # samples below which nothing could be held out
SHOWN_ANSWERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class InventionSettings:
    """How data are made.

    Attributes:
        samples: wanted.
        batch: requests that are written, and answered, together; part of what decides the text.
        temperature: with which requests are written.
        min_p: see `Drawing`.
        answer_temperature: with which they are answered; 0 is greedy.
        answer_tokens: of an answer at most, unless the contract allows fewer.
        max_tokens: of a prompt and its answer.
        seed: of everything.
    """

    samples: int = 256
    batch: int = 32
    temperature: float = 1.0
    min_p: float = 0.02
    answer_temperature: float = 0.0
    answer_tokens: int = 256
    max_tokens: int = 4096
    seed: int = 0

    @property
    def rounds(self) -> int:
        """How many there are at most: twice what would do if every request were used and none crossed."""
        return max(2, -(-2 * self.samples // self.batch))


@dataclass(frozen=True, slots=True, kw_only=True)
class Invention:
    """A data file that was made.

    Attributes:
        path: JSON lines of requests and answers.
        record: how it was made and what it holds, as plain data.
    """

    path: Path
    record: Mapping[str, Any] = field(repr=False)

    def noted(self, training: TrainingRecord) -> TrainingRecord:
        """A training on these data, which says how they were made."""
        return training.model_copy(update={"settings": {**training.settings, INVENTED: dict(self.record)}})


def invent(
    path: Path,
    *,
    base: BaseModel,
    relabelled: Path,
    invocation: Invocation,
    samples: SampleRequests,
    contract: Contract | None = None,
    settings: InventionSettings | None = None,
    original: Path | None = None,
    work: Path | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Invention:
    """Makes a data file, or takes the one that an earlier call has made alike.

    Args:
        path: the file; its record is beside it, with the suffix `.json`.
        base: the base model.
        relabelled: an aLoRA folder in normal form; its weights on every token answer.
        invocation: as in that folder.
        samples: what new requests are made like; none makes conversations.
        contract: the adapter's `io.yaml`, or None.
        settings: see `InventionSettings`.
        original: the adapter of which `relabelled` is an approximation, as PEFT loads it, which answers then.
        work: where an unfinished run keeps its rounds; None keeps nothing.
        device: torch device.
        dtype: of the base weights.
        progress: told about each stage.

    Raises:
        SpecError: ZD030, sample requests hold what no contract says the place of.
        RefusedError: ZD031, too few requests were of use; ZT001, see `Drafting.round`.
        UsageError: ZD032, `path` holds something else than what was made there.
        UndecidedError: see `zoo.training.invention.sampler.decode`.
    """
    settings = settings or InventionSettings()
    _check_contract(samples, contract)
    identity = _identity(base, relabelled, invocation, samples, contract, settings, device, dtype)
    if original:
        identity["original"] = sha256_file(original / WEIGHTS_NAME)
    if made := _made(path, identity):
        return made
    tail = invocation.text if invocation.position is Position.IN_MESSAGE else ""
    where: dict[str, Any] = {"dtype": dtype, "device": device}
    model = teacher = attach(load_model(base, **where), relabelled).eval()
    if original:
        teacher = original_teacher(original, base=base, relabelled=relabelled, **where)
    writing = Writing(
        model=model,
        teacher=teacher,
        prompter=Prompter(base),
        invocation=invocation,
        requests=samples.requests,
        tail=tail,
        contract=contract,
        settings=settings,
    )
    rounds = Rounds(work / "invented" if work else None, identity)
    rows: list[Mapping[str, Any]] = []
    for done in _rounds(writing, rounds, settings.rounds, progress):
        rows += done
        progress("invented samples", done=min(len(rows), settings.samples), total=settings.samples)
        if enough(rows, settings.samples):
            break
    return _written(path, chosen(rows, settings.samples), writing, identity, samples.origin)


def _rounds(
    writing: Writing, rounds: Rounds, most: int, progress: Progress
) -> Iterator[Sequence[Mapping[str, Any]]]:
    for number in range(most):
        found = rounds.get(number)
        if found is None:
            found = writing.round(number, progress)
            rounds.put(found)
        else:
            writing.remember(found)
        yield found["rows"]


def _written(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    writing: Writing,
    identity: Mapping[str, Any],
    origin: str,
) -> Invention:
    if len(rows) < LEAST:
        rejected: Counter[str] = writing.rejected
        why = ", ".join(f"{count} {reason}" for reason, count in rejected.most_common()) or "none was written"
        raise RefusedError(
            f"only {len(rows)} invented requests are of use ({why})",
            code="ZD031",
            hint="give more sample requests, a larger base, or data of your own: --recover DATA.jsonl",
        )
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    record = {
        **identity,
        "origin": origin or "the base's chat template alone",
        "samples": len(rows),
        "drafted": writing.drafted,
        "crossed": writing.crossed,
        "rejected": dict(writing.rejected.most_common()),
        "answers": {answer[:60]: count for answer, count in counts(rows).most_common(SHOWN_ANSWERS)},
        "sha256": sha256_bytes(content),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content)
    write_file(_beside(path), (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode())
    return Invention(path=path, record=record)


def _made(path: Path, identity: Mapping[str, Any]) -> Invention | None:
    """What an earlier call has made alike; None where there is nothing, or something to be made anew."""
    if not path.is_file():
        return None
    try:
        record = json.loads(_beside(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or record.get("sha256") != sha256_file(path):
        raise UsageError(
            f"{path} is not what was made there, and would be overwritten",
            code="ZD032",
            hint=f"train on it with --recover {path}, or move it away",
        )
    alike = all(record.get(key) == value for key, value in identity.items())
    return Invention(path=path, record=record) if alike else None


def _check_contract(samples: SampleRequests, contract: Contract | None) -> None:
    if contract is None and any(one.documents or one.arguments for one in samples.requests):
        raise SpecError(
            "sample requests have documents or arguments, and no io.yaml says where they go in a prompt",
            hint="give it: --io io.yaml",
            code="ZD030",
        )


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _identity(
    base: BaseModel,
    relabelled: Path,
    invocation: Invocation,
    samples: SampleRequests,
    contract: Contract | None,
    settings: InventionSettings,
    device: str,
    dtype: Dtype,
) -> dict[str, Any]:
    """What decides the file, on one machine."""
    requests = [one.model_dump(mode="json") for one in samples.requests]
    return {
        "base": base.revision or base.weights_sha256,
        "adapter": sha256_file(relabelled / WEIGHTS_NAME),
        "invocation": list(invocation.ids),
        "contract": contract.sha256 if contract else "",
        "requests": sha256_bytes(json.dumps(requests, sort_keys=True).encode()),
        "settings": asdict(settings),
        "device": device.partition(":")[0],
        "dtype": dtype,
    }
