"""Several adapters of one base as one: the sum of their updates, exact, of the sum of their ranks.

Source: Xia et al., Chain of LoRA, arXiv 2401.04151, for a chain whose links were all kept; peft 0.21.2,
tuners/lora/model.py, `add_weighted_adapter` with combination_type `cat`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.forms import Form, LowRank
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedSum:
    """A weighted sum of updates of one module.

    Attributes:
        parts: the weight and the stored update of each.
    """

    parts: tuple[tuple[float, Form], ...]

    def low_rank(self) -> LowRank:
        """The factors side by side, each weight and scale in its own columns of b."""
        import torch

        plain = [(weight, form.low_rank()) for weight, form in self.parts]
        a = torch.cat([low.a for _, low in plain])
        b = torch.cat([_scaled(low.b, weight * low.scale) for weight, low in plain], dim=1)
        return LowRank(a=a, b=b, scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """Each part's own forward, added up."""
        total = self.parts[0][1].update(x) * self.parts[0][0]
        for weight, form in self.parts[1:]:
            total = total + form.update(x) * weight
        return total

    @property
    def error(self) -> float:
        """A bound on the relative error of parts without an exact form; 0 where all are exact."""
        from zoo.converters.canonical import inner
        from zoo.converters.variants.approximation import Approximated

        off = 0.0
        for weight, form in self.parts:
            if isinstance(form, Approximated):
                low = form.low_rank()
                size = abs(weight * low.scale) * math.sqrt(max(inner(low.a, low.b, low.a, low.b), 0.0))
                off += size * form.error / math.sqrt(max(1 - form.error**2, 1e-12))
        low = self.low_rank()
        whole = math.sqrt(max(inner(low.a, low.b, low.a, low.b), 0.0))
        return off / whole if whole else (math.inf if off else 0.0)


def parse_weights(text: str, count: int) -> tuple[float, ...]:
    """Reads `1,0.5`; all one when empty.

    Raises:
        UsageError: not one finite number an adapter.
    """
    try:
        weights = tuple(float(part) for part in text.split(",")) if text else (1.0,) * count
    except ValueError:
        weights = ()
    if len(weights) != count or not all(map(math.isfinite, weights)):
        raise UsageError(
            f"{text[:60]!r} is not one number for each of {count} adapters",
            hint=f"--weights {','.join(['1'] * count)}",
        )
    return weights


def concat(checkpoints: Sequence[LoraCheckpoint], weights: Sequence[float]) -> LoraCheckpoint:
    """One checkpoint whose update is the weighted sum of several; see `fold` for its normal form.

    Args:
        checkpoints: of one base; the first one names the result.
        weights: one a checkpoint.

    Raises:
        UsageError: fewer than two checkpoints, or aLoRAs with different invocations.
    """
    if len(checkpoints) < 2:
        raise UsageError("--concat needs two adapters or more", hint="zoo convert A B OUT --concat")
    first = checkpoints[0]
    invocations = {checkpoint.invocation for checkpoint in checkpoints if checkpoint.invocation}
    if len(invocations) > 1:
        raise UsageError(
            "the adapters have different invocations: one aLoRA has one",
            hint="publish them one by one; an engine chooses by invocation",
        )
    loaders: dict[str, Callable[[], Form]] = {}
    for path in dict.fromkeys(path for checkpoint in checkpoints for path in checkpoint.modules):
        parts = [(w, c.modules[path]) for w, c in zip(weights, checkpoints, strict=True) if path in c.modules]
        loaders[path] = _loader(tuple(parts))
    return replace(
        first,
        format=" + ".join(checkpoint.format for checkpoint in checkpoints),
        original=None,  # no one folder computes the sum
        modules=dict(sorted(loaders.items())),
        shapes={path: shape for checkpoint in checkpoints for path, shape in checkpoint.shapes.items()},
        digests=_numbered(checkpoints),
        invocation=next(iter(invocations), None),
        renames=_each(checkpoints, lambda checkpoint: checkpoint.renames),
        notes=(
            *_each(checkpoints, lambda checkpoint: checkpoint.notes),
            f"the sum of {len(checkpoints)} updates with weights {', '.join(f'{w:g}' for w in weights)} → "
            "factors side by side, ranks added, exact",
        ),
        lost=_each(checkpoints, lambda checkpoint: checkpoint.lost),
        warnings=(*_each(checkpoints, lambda checkpoint: checkpoint.warnings), *_warnings(checkpoints)),
    )


def _loader(parts: tuple[tuple[float, Callable[[], Form]], ...]) -> Callable[[], Form]:
    return lambda: WeightedSum(parts=tuple((weight, load()) for weight, load in parts))


def _scaled(b: "Tensor", scale: float) -> "Tensor":
    """The product in b's own dtype where that is exact, else in float64."""
    import torch

    wide = b.double() * scale
    narrow = wide.to(b.dtype)
    return narrow if torch.equal(narrow.double(), wide) else wide


def _numbered(checkpoints: Sequence[LoraCheckpoint]) -> Mapping[str, str]:
    return {
        f"{number}/{name}": digest
        for number, checkpoint in enumerate(checkpoints, start=1)
        for name, digest in checkpoint.digests.items()
    }


def _each(
    checkpoints: Sequence[LoraCheckpoint], said: Callable[[LoraCheckpoint], tuple[str, ...]]
) -> tuple[str, ...]:
    return tuple(
        f"{checkpoint.folder.name} ({number}): {line}"
        for number, checkpoint in enumerate(checkpoints, start=1)
        for line in said(checkpoint)
    )


def _warnings(checkpoints: Sequence[LoraCheckpoint]) -> list[str]:
    lines = []
    bases = {checkpoint.config.base_model_name_or_path for checkpoint in checkpoints} - {None, ""}
    if len(bases) > 1:
        lines.append(f"the adapters name different bases: {', '.join(sorted(map(str, bases)))[:200]}")
    if 0 < sum(checkpoint.invocation is not None for checkpoint in checkpoints) < len(checkpoints):
        lines.append("some are aLoRAs and some plain LoRAs, which learnt to act on the whole prompt")
    lines.append("a sum of adapters that were trained apart is not known to do what each did: measure it")
    return lines
