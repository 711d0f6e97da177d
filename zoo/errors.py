"""Every exception that zoo raises on purpose, with the exit code its class carries.

ZooError
├── VerdictError        1  the answer is no: an input was understood and refused
│   ├── RefusedError       … with a stable check code
│   └── ContractError      … a request or a reply breaks an intrinsic's contract, at a path
├── UsageError          2  the command or a file could not be understood
│   ├── NotFoundError
│   └── SpecError
├── UndecidedError      3  could not decide: something needed is missing or failed
│   ├── BaseMissingError
│   ├── MissingExtraError
│   ├── EngineError
│   └── HubError
└── DefectError         4  a bug in zoo itself

Exit code 0 means fine. CI must not read 3 or 4 as "the adapter is bad".
"""

from collections.abc import Sequence
from typing import ClassVar


class ZooError(Exception):
    """A failure that zoo explains in one sentence.

    Attributes:
        message: what happened, naming the thing it happened to.
        hint: the next thing to do, often a command; empty when there is none.
        code: a stable code that `zoo explain CODE` knows; empty when there is none.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        """Makes an error; `message` is one sentence without a trailing full stop."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        """The message, with its code in front and its hint behind where there is one."""
        head = f"{self.code}: {self.message}" if self.code else self.message
        return f"{head}\n  → {self.hint}" if self.hint else head


class VerdictError(ZooError):
    """The question was answered, and the answer is no."""

    exit_code = 1


class RefusedError(VerdictError):
    """An adapter was read and understood, and is refused for the reason that `code` names."""


class ContractError(VerdictError):
    """A request or a reply breaks an intrinsic's contract.

    Attributes:
        path: keys and indices from the top of the request or reply to what is wrong; empty for the whole.
    """

    def __init__(self, message: str, *, path: Sequence[str | int] = (), hint: str = "", code: str) -> None:
        """Makes an error about the value at `path`."""
        super().__init__(message, hint=hint, code=code)
        self.path = tuple(path)


class UsageError(ZooError):
    """The command line or a file cannot be understood."""

    exit_code = 2


class NotFoundError(UsageError):
    """A path or a name on the command line does not exist."""


class SpecError(UsageError):
    """A file that somebody wrote (YAML, JSON, JSONL) breaks its specification."""


class UndecidedError(ZooError):
    """No verdict was reached; trying again later or elsewhere may reach one."""

    exit_code = 3


class BaseMissingError(UndecidedError):
    """The base model cannot be had here and now."""


class MissingExtraError(UndecidedError):
    """An optional package is not installed."""


class EngineError(UndecidedError):
    """An engine does not start, does not answer, or answers what cannot be read."""


class HubError(UndecidedError):
    """The Hub could not be reached, or answered something that does not decide the matter."""


class DefectError(ZooError):
    """Something that cannot happen has happened: a bug in zoo."""

    exit_code = 4
