"""`zoo.lock.json`: what zoo recorded about a release's files, base, making and evidence."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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


class ConversionRecord(_Closed):
    """How the weights were made from another checkpoint.

    Attributes:
        source_format: the reader's name.
        source_files: sha256 of each input file, by name.
        steps: the plan's lines, in order.
        fold_error: largest relative Frobenius error of any folded module against the source's own update.
    """

    source_format: str
    source_files: dict[str, Sha256]
    steps: list[str]
    fold_error: float


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
    """

    status: Literal["unverified", "measured"] = "unverified"
    data_sha256: Sha256 | None = None
    samples: int = 0
    agreement: dict[str, float] = {}
    accuracy: dict[str, float] = {}
    trivial: float | None = None


class Lock(_Closed):
    """A release's `zoo.lock.json`, format 1.

    Attributes:
        files: sha256 of every payload file by relative path; the lock itself and the card are not in it.
        evidence: the last recorded validation report in its JSON form, or null.
    """

    format: Literal[1] = 1
    zoo_version: str
    files: dict[str, Sha256]
    base: BaseLock
    conversion: ConversionRecord | None = None
    training: TrainingRecord | None = None
    behaviour: BehaviourRecord = BehaviourRecord()
    evidence: Mapping[str, Any] | None = None


def dump_lock(lock: Lock) -> str:
    """The JSON text of a lock, byte-stable for the same content."""
    import json

    return json.dumps(lock.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
