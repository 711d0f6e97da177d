"""What a hostile folder is: how it is made, which door it comes to, and which code has to stop it."""

import enum
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.models import BaseModel

Change = Callable[[Path, BaseModel], BaseModel | None]
INVOCATION = "<|im_start|>check\\n"
CANARY = "canary"  # what code from a folder would leave in the working folder, if any of it ran
TOKEN = "hf_" + "qZ7" * 11  # the shape of a Hub token, and nobody's


class Door(enum.Enum):
    """The command that a folder is given to, as its arguments; `{folder}`, `{out}` and `{base}` are paths."""

    VALIDATE = ("validate", "{folder}", "--base", "{base}", "--static", "--json")
    VALIDATE_ALONE = ("validate", "{folder}", "--static", "--json")
    VALIDATE_ALL = ("validate", "{folder}", "--base", "{base}", "--json")
    CONVERT = ("convert", "{folder}", "{out}", "--base", "{base}", "--name", "x", "--invocation", INVOCATION)
    INSPECT = ("inspect", "{folder}", "--base", "{base}")
    PUBLISH = ("publish", "{folder}", "--to", "{out}", "--dry-run", "--base", "{base}")
    CARD = ("card", "{folder}")
    VERIFY = ("verify", "{folder}", "--json")
    SIGNED = ("verify", "{folder}", "--json", "--key", "{folder}/../publisher.pub")
    GATE = ("gate", "{folder}", "--base", "{base}", "--policy", "{folder}/../zoo-gate.yaml")

    def arguments(self, folder: Path, base: BaseModel, out: Path) -> list[str]:
        """The command line behind `zoo`."""
        return [part.format(folder=folder, base=base.folder, out=out) for part in self.value]

    @property
    def light(self) -> bool:
        """Whether the command gets by without torch."""
        return self in (Door.VALIDATE, Door.VALIDATE_ALONE, Door.CARD, Door.VERIFY, Door.SIGNED)


def put(name: str, content: bytes | Callable[[], bytes]) -> Change:
    """A file in the folder, in place of one that may be there; what is large is made when it is needed."""

    def change(folder: Path, base: BaseModel) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content())

    return change


@dataclass(frozen=True, kw_only=True)
class Hostile:
    """One hostile folder: a release in order, changed.

    Attributes:
        family: what kind of attack it is.
        name: which one.
        code: the code that has to stop it.
        change: makes it out of a copy of a release in order; returns the base where that is hostile as well.
        door: the command.
        relock: the lock is written again, as the author of such a release would.
        silent: what must not stand in any output, such as a secret.
    """

    family: str
    name: str
    code: str
    change: Change
    door: Door = Door.VALIDATE
    relock: bool = True
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command said about a folder.

    Attributes:
        status: its exit code.
        stdout: the document.
        stderr: everything else.
        left: names of what it left behind: an output, a canary.
    """

    status: int
    stdout: str
    stderr: str
    left: Sequence[str] = ()

    def codes(self) -> set[str]:
        """Every code that said no: of error findings in a report, else of the error on stderr."""
        try:
            document = json.loads(self.stdout)
        except ValueError:
            document = None
        reports = document if isinstance(document, list) else [document] if document else []
        found = {
            result["code"]
            for report in reports
            for result in report["results"]
            for finding in result["outcome"].get("findings", [])
            if finding["severity"] == "error"
        }
        words = re.findall(r"\bZ[A-Z]\d{3}\b", self.stderr + ("" if reports else self.stdout))
        return found | set(words)

    def faults(self, case: Hostile) -> list[str]:
        """Why the folder was not stopped as it should be; empty where it was."""
        said = self.stdout + self.stderr
        found = []
        # what cannot become an aLoRA is described all the same, its refusal with it
        if self.status not in ((0, 1, 2) if case.door is Door.INSPECT else (1, 2)):
            found.append(f"exit code {self.status}")
        if case.code not in self.codes():
            found.append(f"stopped by {sorted(self.codes())}, not {case.code}")
        if self.left:
            found.append(f"left {', '.join(self.left)}")
        if raw := sorted({c for c in said if not c.isprintable() and c != "\n"}):
            found.append(f"printed {raw}")
        found += [f"printed {secret[:6]}…" for secret in case.silent if secret in said]
        return found
