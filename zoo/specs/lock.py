"""`zoo.lock.json`: what zoo recorded about a release's files, base, making and evidence."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from zoo.specs.comparison import Comparison

INVENTED = "invented"  # among a training's settings: how its data were made, where they were
Share = Annotated[float, Field(ge=0, le=1)]
MAX_FILES = 1000
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _stays_below(name: str) -> str:
    """A path that leads out of the folder names no file of the release."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ValueError("no path of a file in the release")
    return name


FileName = Annotated[str, Field(max_length=500), AfterValidator(_stays_below)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseLock(_Closed):
    """The exact base model.

    Attributes:
        id: Hub id.
        revision: commit hash, or null when the weights did not come from the Hub.
        weights_sha256: digest over the weight files when there is no commit to name them.
        source: where the bytes came from, for people.
        tokenizer_sha256: digest of `tokenizer.json`.
        chat_template_sha256: digest of the template text, UTF-8.
        tokenizer_config_sha256: digest of `tokenizer_config.json`, whose class and special tokens decide ids
            too; null when the base has none, or in a lock of before it was recorded.
    """

    id: str
    revision: str | None = None
    weights_sha256: Sha256 | None = None
    source: str = ""
    tokenizer_sha256: Sha256
    chat_template_sha256: Sha256
    tokenizer_config_sha256: Sha256 | None = None


class ChangeRecord(_Closed):
    """What a conversion did to folded weights beyond the exact fold.

    Attributes:
        kind: which change.
        lines: what was done and what it cost, for people.
        measured: the same as numbers, with the models that were read.
    """

    kind: Literal["project-safe", "truncate", "grow", "widen"]
    lines: list[str]
    measured: dict[str, Any]


class ConversionRecord(_Closed):
    """How the weights were made from another checkpoint.

    Attributes:
        source_format: the reader's name.
        source_files: sha256 of each input file, by name.
        steps: the plan's lines, in order.
        fold_error: largest relative Frobenius error of any folded module against the source's own update.
        changes: made to the folded weights afterwards, in order; none in a lock of before they were recorded.
    """

    source_format: str
    source_files: dict[str, Sha256]
    steps: list[str]
    fold_error: float
    changes: list[ChangeRecord] = []


class TrainingRecord(_Closed):
    """How the weights were trained, complete enough to repeat it.

    Attributes:
        method: `supervised` (cross-entropy on answers) or `distillation` (KL to a teacher LoRA).
        data_sha256: digest of the data file.
        samples: training samples used.
        steps: optimiser steps.
        seed: of data order and initialisation.
        settings: every hyperparameter by name.
        final_loss: mean loss of the last step, nats a token.
        versions: of the packages that computed it.
    """

    method: Literal["supervised", "distillation"]
    data_sha256: Sha256
    samples: int
    steps: int
    seed: int
    settings: dict[str, Any]
    final_loss: float
    versions: dict[str, str]


class BehaviourRecord(_Closed):
    """What the adapter was measured to do, on data it was not trained on.

    Attributes:
        status: `unverified` when nobody measured.
        data_sha256: digest of the data file the held-out samples came from.
        samples: held-out samples.
        agreement: share of samples on which it answers as the teacher LoRA does.
        accuracy: task accuracy by column: `base`, `lora`, `relabelled`, `recovered`, or `trained`.
        trivial: accuracy of always giving the commonest answer.
        comparison: of a recovered adapter with its LoRA; null when nothing was recovered, or in a lock of
            before it was recorded.
    """

    status: Literal["unverified", "measured"] = "unverified"
    data_sha256: Sha256 | None = None
    samples: Annotated[int, Field(ge=0)] = 0
    agreement: dict[str, Share] = {}
    accuracy: dict[str, Share] = {}
    trivial: Share | None = None
    comparison: Comparison | None = None

    @property
    def own_column(self) -> str:
        """The accuracy column that is the release's own; empty when there is none."""
        return next((name for name in ("recovered", "trained", "relabelled") if name in self.accuracy), "")

    @property
    def own_accuracy(self) -> float | None:
        """Accuracy of the release itself on held-out samples; None when nobody measured it."""
        measured = self.status == "measured" and self.samples > 0 and self.own_column
        return self.accuracy[self.own_column] if measured else None


class ExampleRecord(_Closed):
    """One call that was made with the release's own files.

    Attributes:
        request: as its caller makes it, in chat-completions form.
        arguments: of the instruction.
        reply: what the adapter wrote.
        result: what `io.yaml` made of it, plain JSON.
        prefix_tokens: how many tokens the base model read.
        suffix_tokens: how many the adapter read.
    """

    request: dict[str, Any]
    arguments: dict[str, Any] = {}
    reply: str
    result: Any
    prefix_tokens: int
    suffix_tokens: int


class CostPoint(_Closed):
    """What an answer's first token costs behind a context of one length, in seconds.

    Attributes:
        tokens: of the context.
        reused: with the base's cache of it, as an aLoRA goes on from it.
        recomputed: with the context read again by the adapter, as a LoRA needs it.
    """

    tokens: Annotated[int, Field(ge=1)]
    reused: Annotated[float, Field(gt=0)]
    recomputed: Annotated[float, Field(gt=0)]


class CostRecord(_Closed):
    """Time to the first token after a switch to the adapter, on one machine, through PEFT.

    Attributes:
        machine: processor or GPU.
        device: torch device.
        dtype: of the base weights.
        suffix_tokens: that the adapter reads in either case, invocation included.
        runs: of each figure, which is their median.
        points: shortest context first.
        versions: of the packages that computed it.
    """

    machine: str
    device: str
    dtype: str
    suffix_tokens: int
    runs: int
    points: Annotated[list[CostPoint], Field(min_length=1, max_length=64)]
    versions: dict[str, str]


class Lock(_Closed):
    """A release's `zoo.lock.json`, format 1.

    Attributes:
        files: sha256 of every payload file by relative path; the lock itself and the card are not in it.
        example: one call that was made when it was published; null without a contract or a sample request.
        cost: what a switch to the adapter takes; null when nobody measured.
        evidence: the last recorded validation report in its JSON form, or null.
    """

    format: Literal[1] = 1
    zoo_version: str
    files: Annotated[dict[FileName, Sha256], Field(max_length=MAX_FILES)]
    base: BaseLock
    conversion: ConversionRecord | None = None
    training: TrainingRecord | None = None
    behaviour: BehaviourRecord = BehaviourRecord()
    example: ExampleRecord | None = None
    cost: CostRecord | None = None
    evidence: Mapping[str, Any] | None = None

    @property
    def on_invented(self) -> bool:
        """Whether its behaviour was measured on invented requests alone, whose answers are the LoRA's own."""
        return self.training is not None and on_invented(self.training, self.behaviour)


def on_invented(training: TrainingRecord, behaviour: BehaviourRecord) -> bool:
    """Whether what was measured was measured on a part of the data that were made for the training."""
    made = training.settings.get(INVENTED)
    return isinstance(made, Mapping) and behaviour.data_sha256 == made.get("sha256")


def dump_lock(lock: Lock) -> str:
    """The JSON text of a lock, byte-stable for the same content."""
    import json

    return json.dumps(lock.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
