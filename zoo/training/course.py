"""How a run goes: losses, looks at validation data, the best weights so far, and its state on disk."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.training import checkpoint

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from zoo.training.optimisers import Steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at validation data saw.

    Attributes:
        rank: compared from the first number on; higher is better.
        values: by name, for people, plots and trackers; the first is the one that is named.
    """

    rank: tuple[float, ...]
    values: Mapping[str, float]

    @classmethod
    def of(cls, score: "float | Look") -> "Look":
        """A plain score as a look."""
        return score if isinstance(score, Look) else cls(rank=(score,), values={"score": score})


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimised:
    """What a run ended with.

    Attributes:
        losses: mean loss of each step, nats a token; fewer than the recipe's steps when it ended early.
        best_step: the step whose weights scored best; 0 is the start.
        best_score: the first number of their rank.
        looks: every look at the score: the step, and what was seen.
    """

    losses: Sequence[float]
    best_step: int
    best_score: float
    looks: Sequence[tuple[int, Mapping[str, float]]]


@dataclass(slots=True, kw_only=True)
class Course:
    """Where a run stands.

    Attributes:
        losses: of every step so far.
        looks: so far.
        rank: the best one's.
        at: the step it was taken after.
        best: the weights it saw, on the host.
    """

    losses: list[float] = field(default_factory=list)
    looks: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    rank: tuple[float, ...] = (-math.inf,)
    at: int = 0
    best: dict[str, "Tensor"] = field(default_factory=dict)

    def look(self, step: int, score: "float | Look", parameters: Mapping[str, "Parameter"]) -> None:
        """Takes a look into account."""
        seen = Look.of(score)
        self.looks.append((step, seen.values))
        if not self.best or seen.rank > self.rank:
            self.rank, self.at, self.best = seen.rank, step, _copy(parameters)

    def note(self, speed: float) -> str:
        """Where it stands, for people."""
        name, value = next(iter(dict(self.looks)[self.at].items()))
        return (
            f"loss {self.losses[-1]:.4f}, best {name} {value:.4f} at step {self.at}, "
            f"{speed:,.0f} answer tokens/s"
        )

    def ended(self) -> Optimised:
        """It as the outcome of a run."""
        return Optimised(losses=self.losses, best_step=self.at, best_score=self.rank[0], looks=self.looks)

    def save(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        trained: Mapping[str, "Parameter"],
        optimizer: "Steps",
    ) -> None:
        """Writes a checkpoint into a folder."""
        state = checkpoint.Checkpoint(
            losses=self.losses, looks=self.looks, rank=self.rank, best_step=self.at, settings=settings
        )
        checkpoint.write(folder, state, parameters=trained, best=self.best, optimizer=optimizer)

    @classmethod
    def resumed(
        cls,
        folder: Path | None,
        settings: Mapping[str, Any],
        trained: Mapping[str, "Parameter"],
        optimizer: "Steps",
    ) -> Self:
        """What a folder's checkpoint holds, weights and optimiser filled from it; a new one without it.

        Raises:
            UsageError: ZD004, it is of a run with other settings.
        """
        found = folder and checkpoint.load(folder, settings, parameters=trained, optimizer=optimizer)
        if not found:
            return cls()
        state, best = found
        return cls(
            losses=list(state.losses), looks=list(state.looks), rank=state.rank, at=state.best_step, best=best
        )


def _copy(parameters: Mapping[str, "Parameter"]) -> dict[str, "Tensor"]:
    return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}
