"""What the checks ask an engine: the next token's log-probabilities, with and without a supplied prefix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from zoo.activation import Convention


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to an engine.

    Attributes:
        ids: token ids of the whole prompt, and of anything decoded after it.
        adapter: ask the adapter; else the base model.
        prefix: how many leading ids the engine is given first, in a request of their own to the base model,
            so that it can reuse their KV; 0 is a cold run, in which nothing of an earlier request is reused.
        reuse: let it reuse whatever earlier requests left in its cache, as a server does unless told
            otherwise; an engine that keeps nothing between requests has nothing to reuse.
    """

    ids: tuple[int, ...]
    adapter: bool = True
    prefix: int = 0
    reuse: bool = False


class Engine(Protocol):
    """A running engine with one base model and one adapter loaded."""

    @property
    def convention(self) -> Convention:
        """What this version of the engine is known to do with an aLoRA."""

    def log_probs(self, request: Request) -> Mapping[int, float]:
        """The next token's log-probabilities after `request.ids`, natural logarithm, by token id.

        At least the 20 likeliest tokens; engines that have the whole vocabulary give all of it.

        Raises:
            EngineError: the engine failed, or refuses the request.
        """

    def close(self) -> None:
        """Stops the engine and frees what it holds; more than once does no harm."""
