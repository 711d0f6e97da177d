"""A Job of the double: what it was told, how it stands, what it printed."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

Machine = Callable[["Job"], Iterator[str]]


class BrokenError(Exception):
    """Raised by a machine whose container ends in an error."""


def idle(job: "Job") -> Iterator[str]:
    """A machine on which every command ends at once and prints nothing."""
    return iter(())


@dataclass(kw_only=True)
class Job:
    """A Job.

    Attributes:
        id: Its name.
        owner: The namespace it runs in.
        spec: The request's body.
        stage: As the Hub calls it.
        message: What the Hub says about the stage.
        lines: Its log.
    """

    TIME: ClassVar[str] = "2026-01-01T00:00:00.000Z"

    id: str
    owner: str
    spec: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[str] = field(default_factory=list)

    def start(self, machine: Machine) -> None:
        """Run the command on a machine, in a thread."""
        threading.Thread(target=self._run, args=(machine,), daemon=True).start()

    def said(self) -> dict[str, Any]:
        """What the Hub tells of it: no secret."""
        shown = {name: value for name, value in self.spec.items() if name != "secrets"}
        return shown | {
            "id": self.id,
            "createdAt": self.TIME,
            "owner": {"id": self.owner, "name": self.owner, "type": "user"},
            "status": {"stage": self.stage, "message": self.message},
        }

    def _run(self, machine: Machine) -> None:
        self.stage = "RUNNING"
        try:
            for line in machine(self):
                self.lines.append(line)
        except BrokenError as error:
            self.message = str(error)
        if self.stage == "RUNNING":
            self.stage = "ERROR" if self.message else "COMPLETED"
