"""How long work tells what it is doing, without knowing whether anybody looks."""

from typing import Protocol


class Progress(Protocol):
    """Receives the state of long work; the command line shows it, a library user may ignore it."""

    def __call__(self, stage: str, *, done: int, total: int, note: str = "") -> None:
        """Takes one state.

        Args:
            stage: what is being done, stable while it lasts.
            done: units finished.
            total: units in all.
            note: a short measured remark: a loss, a speed.
        """


def silent(stage: str, *, done: int, total: int, note: str = "") -> None:
    """A `Progress` that shows nothing."""
