"""`zoo-gate.yaml`: what a library demands of its adapters before it lets them in."""

import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Code = Annotated[str, Field(pattern=r"^Z[A-Z]\d{3}$")]
Glob = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(min_length=10, max_length=2000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]

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
    adapters: Annotated[list[Glob], Field(min_length=1)] = ["*"]


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


class Regression(_Closed):
    """What may become worse against the version published before.

    Attributes:
        published: repository of an adapter's releases; `{name}` is its name.
        accuracy: largest drop that is let through, beyond what the two samples' sizes explain.
    """

    published: Annotated[str, Field(pattern=r"^[\w.{}-]+/[\w.{}-]+$", max_length=200)]
    accuracy: Share = 0.0


class Policy(_Closed):
    """A gate's policy, format 1.

    Attributes:
        required: checks that must have passed; not applicable is not enough.
        allowed_skips: what may stay unchecked.
        author_skips: whether what an author allows in `zoo.yaml` counts too.
        evaluation: bounds on recorded measurements; null demands none.
        regression: against what is published; null compares with nothing.
    """

    format: Literal[1] = 1
    required: list[Code] = []
    allowed_skips: list[AllowedSkip] = []
    author_skips: Literal["allow", "ignore"] = "allow"
    evaluation: Evaluation | None = None
    regression: Regression | None = None
