"""Replaying `conformance.safetensors`: what base and adapter at hand compute, against the shipped numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo import peft_model
from zoo.errors import UndecidedError
from zoo.models import Dtype
from zoo.validators.conformance.kv import empty_cache, prefix_kv
from zoo.validators.conformance.projection import PARTS, SCOPES, project
from zoo.validators.conformance.shipped_file import RUNS, Shipped
from zoo.validators.conformance.stepping import log_probs, run_base

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from zoo.validators.conformance.session import Session

SAID = {
    "rule": "the adapter from the invocation's first token on",
    "early": "the adapter one token early",
    "late": "the adapter one token late",
    "base": "the base model",
    "plain": "a plain LoRA on every token",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KvGap:
    """How far projections of a prefix's keys and values are from the shipped ones.

    Attributes:
        multiple: the largest distance, in multiples of its tolerance; infinite when not finite.
        where: layer, part and scope of that one, in words.
    """

    multiple: float
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one run of some model over one shipped prompt gave.

    Attributes:
        label: names the prompt.
        distances: largest absolute difference in nats from each shipped run; infinite when not finite.
        kv: of its prefix; None for a prompt without one.
    """

    label: str
    distances: Mapping[str, float]
    kv: KvGap | None

    def looks_like(self, tolerance: float) -> str:
        """The shipped run that it fits, in words; the nearest one when it fits none."""
        nearest = min(RUNS, key=self.distances.__getitem__)
        if self.distances[nearest] <= tolerance:
            return f"it computes {SAID[nearest]}"
        gap = self.distances[nearest]
        return f"it fits none of the shipped runs; nearest is {SAID[nearest]}, {gap:.3g} nats away"


class Replay:
    """The shipped vectors against one loaded base and adapter; each part is measured when first asked for."""

    def __init__(self, session: "Session", shipped: Shipped) -> None:
        """Remembers both.

        Raises:
            UndecidedError: the file has no tolerance for the dtype of the session's model.
        """
        self._session, self.shipped = session, shipped
        self.dtype: Dtype = str(session.model.dtype).removeprefix("torch.")  # type: ignore[assignment]
        if self.dtype not in shipped.record.tolerances:
            raise UndecidedError(
                f"the vectors hold no tolerance for {self.dtype}, only for "
                f"{', '.join(shipped.record.tolerances)}",
                hint="zoo validate --dtype float32",
            )
        self.tolerance = shipped.record.tolerances[self.dtype].log_prob

    @cached_property
    def base(self) -> list[Answers]:
        """The pristine base over every prompt."""
        return [self._base_run(prompt) for prompt in range(self.shipped.prompts)]

    @cached_property
    def adapter(self) -> list[Answers]:
        """PEFT over every prompt; it looks for the invocation itself."""
        found = []
        for prompt in range(self.shipped.prompts):
            cache = empty_cache()
            ids = self._session.tensor([self.shipped.ids(prompt)])
            logits = peft_model.forward_by_rule(self._session.peft, ids, cache=cache)
            found.append(self._answers(prompt, logits, cache))
        return found

    @cached_property
    def controls(self) -> dict[str, Answers]:
        """PEFT on the shortest prompt with a prefix, each shipped run made on purpose, by its name.

        Empty when every prompt begins with the invocation.
        """
        import torch

        shipped, session = self.shipped, self._session
        with_prefix = [prompt for prompt in range(shipped.prompts) if shipped.start(prompt)]
        if not with_prefix:
            return {}
        prompt = min(with_prefix, key=lambda one: len(shipped.ids(one)))
        ids, start = shipped.ids(prompt), shipped.start(prompt)
        active = len(ids) - start
        wanted = {"early": active + 1, "late": active - 1, "base": None, "plain": len(ids)}
        found = {}
        for run, offset in wanted.items():
            cache = empty_cache()
            with torch.no_grad():
                logits = peft_model.forward(
                    session.peft, session.tensor([ids]), offsets=[offset], cache=cache
                )
            found[run] = self._answers(prompt, logits, cache)
        return found

    def apart(self, run: str) -> float:
        """How far a shipped run is from the rule's at most, over all prompts, in nats."""
        import numpy as np

        arrays = self.shipped.arrays
        return float(np.abs(arrays[f"expected.{run}"] - arrays["expected.rule"]).max())

    def _base_run(self, prompt: int) -> Answers:
        ids, cache = self.shipped.ids(prompt), empty_cache()
        return self._answers(prompt, run_base(self._session.model, self._session.tensor([ids]), cache), cache)

    def _answers(self, prompt: int, logits: "Tensor", cache: Any) -> Answers:
        """Takes one run's answers apart.

        Args:
            prompt: its index.
            logits: `[1, tokens, vocabulary]` over all of its ids.
            cache: as the run left it.
        """
        import numpy as np

        shipped = self.shipped
        mine = shipped.questions(prompt)
        rows = [int(length) - 1 for length in shipped.arrays["question.length"][mine]]
        every = log_probs(logits[0, rows]).float().cpu().numpy()
        got = np.take_along_axis(every, shipped.arrays["token.ids"][mine].astype(np.int64), axis=1)
        start = shipped.start(prompt)
        return Answers(
            label=f"shipped prompt {prompt}",
            distances={run: _largest(got - shipped.expected(run, prompt)) for run in RUNS},
            kv=self._kv_gap(prompt, project(prefix_kv(cache, start), **self._how)) if start else None,
        )

    @property
    def _how(self) -> dict[str, int]:
        return {"seed": self.shipped.record.projection.seed, "count": self.shipped.record.projection.count}

    def _kv_gap(self, prompt: int, found: "NDArray[np.float64]") -> KvGap:
        import numpy as np

        expected = self.shipped.arrays["kv.expected"][prompt]
        if found.shape != expected.shape:
            return KvGap(multiple=float("inf"), where=f"{found.shape[0]} layers, not {expected.shape[0]}")
        # half a unit of float32 is what writing the expected numbers down has cost; it also keeps 0 / 0 away
        rounding = np.finfo(np.float32).eps * np.abs(expected) + np.finfo(np.float32).tiny
        allowed = self.shipped.arrays[f"kv.tolerance.{self.dtype}"][..., None].astype(np.float64) + rounding
        gaps = np.nan_to_num(np.abs(found - expected) / allowed, nan=np.inf)
        layer, part, scope, _ = np.unravel_index(int(gaps.argmax()), gaps.shape)
        return KvGap(multiple=float(gaps.max()), where=f"layer {layer}, {PARTS[part]}, {SCOPES[scope]}")


def _largest(gaps: "NDArray[Any]") -> float:
    import numpy as np

    return float(np.abs(gaps).max()) if np.isfinite(gaps).all() else float("inf")
