"""What a recovery was compared with, in `zoo.lock.json`: columns, differences, lengths, boundary, verdict."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["equivalent", "degraded", "re-reads", "undecided"]
Share = Annotated[float, Field(ge=0, le=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Closed):
    """A mean over samples and its 95 % interval.

    Attributes:
        value: the mean.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


class LengthBin(_Closed):
    """The held-out samples whose contexts have about the same length.

    Attributes:
        shortest: tokens before the invocation, of the shortest.
        longest: of the longest.
        samples: how many.
        scores: the metric by column.
        agreement: share of answers that are the LoRA's, by column.
        difference: of the metric, recovered minus LoRA.
    """

    shortest: int
    longest: int
    samples: int
    scores: dict[str, Share]
    agreement: dict[str, Share]
    difference: Estimate


class BoundaryPoint(_Closed):
    """What some weights answer when the adapter begins elsewhere in the same prompts.

    Attributes:
        weights: `lora`, those that were relabelled; or `recovered`.
        start: where the adapter begins to act, in words.
        samples: how many were asked.
        score: the metric.
        agreement: with the LoRA on the whole prompt.
    """

    weights: Literal["lora", "recovered"]
    start: str
    samples: int
    score: Share
    agreement: Share


class Control(_Closed):
    """A fresh LoRA on the whole prompt, trained as the recovery was: what its data and steps can teach.

    Attributes:
        steps: that it ran.
        score: the metric.
        agreement: with the LoRA.
        gain: of the agreement, paired, control minus recovered.
    """

    steps: int
    score: Estimate
    agreement: Estimate
    gain: Estimate


class Comparison(_Closed):
    """The recovered adapter against the LoRA it was made from, on the same held-out samples.

    Attributes:
        metric: what `scores` are: `accuracy`, `field_match` or `exact_match`.
        margin: how much of it may be lost, at most, to be called equivalent.
        scores: by column: `base`, `lora`, `relabelled`, `recovered`.
        agreement: share of answers that are the LoRA's, by column.
        differences: of the metric, paired, by what is subtracted: `recovered-lora` and so on.
        lengths: by the length of the context, shortest first.
        boundary: the adapter begun elsewhere.
        stopped: why the recovery ended.
        control: see `Control`; null where it was not run.
        verdict: `equivalent`, `degraded`, `re-reads` (degraded, and the boundary is why), or `undecided`
            (too few samples to say).
        reason: the verdict in a sentence, with its figures.
    """

    metric: str
    margin: float
    scores: dict[str, Estimate]
    agreement: dict[str, Estimate]
    differences: dict[str, Estimate]
    lengths: list[LengthBin]
    boundary: list[BoundaryPoint]
    stopped: str
    control: Control | None = None
    verdict: Verdict
    reason: str
