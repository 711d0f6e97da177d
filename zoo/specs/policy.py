"""`zoo-gate.yaml`: what a library demands of its adapters before it lets them in."""

import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Code = Annotated[str, Field(pattern=r"^Z[A-Z]\d{3}$")]
Glob = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(min_length=10, max_length=2000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Gain = Annotated[float, Field(ge=-1.0, le=1.0)]
Globs = Annotated[list[Glob], Field(min_length=1)]
Licence = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}$")]

POLICY_NAME = "zoo-gate.yaml"


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AllowedSkip(_Closed):
    """A check that may stay unchecked, for a reason, until a day.

    Attributes:
        code: the check's.
        reason: at least ten characters: somebody will read it when it has run out.
        expires: the last day on which it holds.
        adapters: names, with `*`; everybody's when left out.
    """

    code: Code
    reason: Reason
    expires: datetime.date
    adapters: Globs = ["*"]


class Evaluation(_Closed):
    """Bounds on what was measured of an adapter's answers on held-out samples (`zoo.lock.json`).

    Attributes:
        samples: fewest held-out samples.
        accuracy: lowest task accuracy.
        above_trivial: least by which the accuracy exceeds that of always giving the commonest answer.
        agreement: lowest agreement with the source LoRA; of converted adapters alone.
    """

    samples: Annotated[int, Field(ge=1)] = 1
    accuracy: Share | None = None
    above_trivial: Share | None = None
    agreement: Share | None = None


class Suite(_Closed):
    """A frozen sample of requests that the gate asks an adapter, and what is demanded of the answers.

    A bound is kept where the whole 95 % interval keeps it, and broken where the whole interval breaks it; in
    between the samples cannot tell, which leaves the gate undecided.

    Attributes:
        name: what messages call it.
        adapters: names of those that are asked, with `*`.
        data: JSONL of requests and answers, from the policy's own folder; `zoo sample` draws one.
        sha256: digest of that file. Another one is another yardstick, and red.
        metric: of closed answers, `balanced_accuracy` when left out. Of others it is always the share of
            right fields where answers are JSON objects, else that of equal answers.
        per_answer: fewest samples of each closed answer.
        at_least: lowest value of the metric.
        above_trivial: least by which it exceeds that of giving one answer to everything.
        structured: lowest share of replies that are well-formed when nothing constrains decoding.
    """

    name: Word
    adapters: Globs = ["*"]
    data: Annotated[str, Field(min_length=1, max_length=1000)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    metric: Literal["balanced_accuracy", "accuracy"] | None = None
    per_answer: Annotated[int, Field(ge=1)] = 10
    at_least: Share | None = None
    above_trivial: Gain | None = 0.0
    structured: Share | None = None


class Regression(_Closed):
    """What may become worse against the version published before.

    Where a suite is for the adapter, the published version is downloaded and asked the same samples, and the
    difference is paired. Without one the measurements that both locks record are compared. Contract, licence
    and files must be what the step from one version number to the other says.

    Attributes:
        published: where an adapter's releases are, `org/name[/folder]`; `{name}` is its name.
        accuracy: largest drop of the metric that is let through, beyond what chance explains.
        margin: a drop so large has to be excluded by the whole interval; null only looks for one that shows.
    """

    published: Annotated[str, Field(pattern=r"^[\w.{}-]+/[\w.{}/-]+$", max_length=200)]
    accuracy: Share = 0.0
    margin: Share | None = None


class Policy(_Closed):
    """A gate's policy, format 1.

    Attributes:
        required: checks that must have passed; not applicable is not enough.
        allowed_skips: what may stay unchecked.
        author_skips: whether what an author allows in `zoo.yaml` counts too.
        evaluation: bounds on recorded measurements; null demands none.
        suites: frozen samples that adapters are asked here and now.
        regression: against what is published; null compares with nothing.
        licenses: that a release may have, in the Hub's spelling; empty allows any.
        engines: that each adapter is tried in (`zoo engines`), besides PEFT.
        serves: engines that would have to activate it, as its files tell; nothing is started.
    """

    format: Literal[1] = 1
    required: list[Code] = []
    allowed_skips: list[AllowedSkip] = []
    author_skips: Literal["allow", "ignore"] = "allow"
    evaluation: Evaluation | None = None
    suites: Annotated[list[Suite], Field(max_length=1000)] = []
    regression: Regression | None = None
    licenses: list[Licence] = []
    engines: list[Word] = []
    serves: list[Word] = []

    @model_validator(mode="after")
    def _names_once(self) -> "Policy":
        names = [one.name for one in self.suites]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two suites are called {twice[0]}")
        return self
