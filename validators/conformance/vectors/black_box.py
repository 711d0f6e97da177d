"""An engine that answers one request at a time, as a server does, asked the vectors that fit it."""

from collections.abc import Callable
from typing import Protocol

from zoo.activation import Convention
from zoo.errors import EngineError
from zoo.validators.conformance.engines.engine import Engine, Request
from zoo.validators.conformance.vectors.case import Case
from zoo.validators.conformance.vectors.compare import LogProbs
from zoo.validators.conformance.vectors.llama_rules import deviations_of
from zoo.validators.conformance.vectors.rules import Deviation

_NO_WAY = {
    "padding-left": "one row a request: nothing is padded",
    "padding-right": "one row a request: nothing is padded",
    "mixed-adapters": "one row a request",
    "batch": "one row a request",
    "chunked-prefill": "the engine itself cuts a prompt into calls",
    "manual-decode": "a request has a prompt, and no tokens decoded before",
    "inputs-embeds": "a request is token ids",
}


class Opening(Protocol):
    """Starts an engine with the tiny model and one of the adapters, which is told by its name."""

    def __call__(self, adapter: str) -> Engine:
        """Starts it.

        Raises:
            EngineRefusesError: it does not take the adapter.
            EngineError: it does not start.
        """


class BlackBox:
    """Engines with one adapter each, opened when the first vector asks for it, and closed together."""

    def __init__(self, convention: Convention, opening: Opening, *, keeps: Callable[[Engine], bool]) -> None:
        """Opens nothing yet.

        Args:
            convention: what the engine is known to do.
            opening: starts it.
            keeps: whether an engine keeps KV between requests, so that earlier ones can harm a later one.
        """
        self.convention = convention
        self.deviations: tuple[Deviation, ...] = deviations_of(convention)
        self._opening = opening
        self._keeps = keeps
        self._open: dict[str, Engine] = {}
        self._failed: dict[str, EngineError] = {}

    def lacks(self, case: Case) -> str:
        """What no request can say."""
        for flag, reason in _NO_WAY.items():
            if flag in case.flags:
                return reason
        if len(case.adapters) > 1:
            return "one adapter is loaded at a time"
        if case.history and _prefix(case) is None and not self._keeps(self._engine(case)):
            return "the engine keeps nothing between requests"
        return ""

    def log_probs(self, case: Case) -> list[LogProbs]:
        """Asks for the last position.

        Raises:
            EngineRefusesError: the engine does not take the adapter.
            EngineError: it does not start, or fails.
        """
        engine = self._engine(case)
        row = case.rows[0]
        prefix = _prefix(case)
        if prefix is None or self._keeps(engine):
            prefix = 0
            for number, earlier in enumerate(case.history):
                asked = Request(ids=earlier.ids, adapter=earlier.adapter is not None, reuse=number > 0)
                engine.log_probs(asked)
        request = Request(
            ids=row.ids,
            adapter=row.adapter is not None,
            prefix=prefix,
            reuse=bool(case.history) and not prefix,
        )
        return [{len(row.ids) - 1: engine.log_probs(request)}]

    def close(self) -> None:
        """Stops every engine that was started."""
        for engine in self._open.values():
            engine.close()
        self._open.clear()

    def _engine(self, case: Case) -> Engine:
        name = case.adapters[0] if case.adapters else "a"
        if name in self._failed:
            raise self._failed[name]
        if name not in self._open:
            try:
                self._open[name] = self._opening(name)
            except EngineError as error:  # starting takes seconds: what failed once is not tried again
                self._failed[name] = error
                raise
        return self._open[name]


def _prefix(case: Case) -> int | None:
    """How many leading ids the base ran first, where that alone is the vector's history; 0 without one."""
    if not case.history:
        return 0
    ids = case.rows[0].ids
    first = case.history[0]
    if len(case.history) > 1 or first.adapter is not None or first.ids != ids[: len(first.ids)]:
        return None
    return len(first.ids) if len(first.ids) < len(ids) else None
