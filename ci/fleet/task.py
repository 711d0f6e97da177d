"""What a fleet is asked, and what comes back for one adapter; both as JSON, since they cross machines."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from zoo.adapter import AdapterRepo
from zoo.errors import SpecError, ZooError
from zoo.provenance import sha256_bytes
from zoo.render.json import from_document
from zoo.report import Report
from zoo.specs.policy import Policy
from zoo.validators.library import base_name, in_order
from zoo.validators.validate import Settings

_TUPLES = ("engines", "tokenizer_envs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What every worker does with every adapter.

    Attributes:
        settings: of the checks.
        policy: of `zoo.ci.gate.read_policy`.
        today: on which allowances may have run out; one day for the whole run.
    """

    settings: Settings
    policy: Policy
    today: datetime.date

    def dump(self) -> str:
        """The order as JSON, the same text for the same order."""
        content = {
            "settings": asdict(self.settings),
            "policy": self.policy.model_dump(mode="json"),
            "today": self.today.isoformat(),
        }
        return json.dumps(content, sort_keys=True, ensure_ascii=False)

    @classmethod
    def load(cls, text: str) -> "Order":
        """An order from what `dump` made."""
        content = json.loads(text)
        settings = content["settings"]
        settings |= {name: tuple(settings[name]) for name in _TUPLES}
        return cls(
            settings=Settings(**settings),
            policy=Policy.model_validate(content["policy"]),
            today=datetime.date.fromisoformat(content["today"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One adapter of a run.

    Attributes:
        index: its place in the order in which one process would take them.
        folder: as it was named, which its report says.
        base: the name of its base; those of one base go to one worker where that can be.
        group: equal for adapters that an engine treats alike as far as their files tell; empty when they
            cannot be read.
    """

    index: int
    folder: Path
    base: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a worker found on one adapter.

    Attributes:
        index: of its task.
        report: the JSON form of its report, judged.
        asked: what it took from adapters before it, by key; see `zoo.validators.conformance.shown`.
        shown: what was shown on it, by key.
    """

    index: int
    report: Mapping[str, Any]
    asked: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> Report:
        """The report.

        Raises:
            SpecError: it is damaged.
        """
        return from_document(self.report)

    def dump(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def load(cls, text: str | bytes) -> "Finished":
        """From what `dump` made.

        Raises:
            SpecError: it is damaged.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not _is_result(content):
            raise SpecError("what a worker sent is damaged")
        made = cls(**content)
        made.read()
        return made


def _is_result(content: Any) -> bool:
    if not isinstance(content, dict) or set(content) != {"index", "report", "asked", "shown"}:
        return False
    keys = (content["asked"], content["shown"])
    return (
        isinstance(content["index"], int)
        and isinstance(content["report"], dict)
        and all(isinstance(one, dict) and all(isinstance(name, str) for name in one.values()) for one in keys)
    )


def tasks(folders: Sequence[Path], settings: Settings) -> list[Task]:
    """The adapters of a run, in the order in which one process takes them.

    Args:
        folders: of `zoo.ci.gate.chosen`.
        settings: of the checks.
    """
    return [
        Task(index=index, folder=folder, base=settings.base or base_name(folder), group=_group(folder))
        for index, folder in enumerate(in_order(folders, settings))
    ]


def _group(folder: Path) -> str:
    try:
        repo = AdapterRepo.open(folder)
        config = repo.config.model_dump(mode="json", exclude={"base_model_name_or_path", "revision"})
        shapes = {name: list(info.shape) for name, info in sorted(repo.tensors.tensors.items())}
    except (ZooError, OSError):
        return ""
    return sha256_bytes(json.dumps([base_name(folder), config, shapes], sort_keys=True).encode())
