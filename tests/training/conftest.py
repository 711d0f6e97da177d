import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import INVOCATION_TEXT
from zoo.models import BaseModel
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position

Write = Callable[[list[Any]], Path]


def sample(text: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "answer": answer, **more}


def task(groups: int) -> list[dict[str, Any]]:
    """A learnable task with prompts of different lengths: does the passage repeat its question?"""
    return [
        sample(f"the passage {'context ' * (group % 4)}{group} question {word}", answer, group=f"g{group}")
        for group in range(groups)
        for word, answer in (("relevant", "yes"), ("system", "no"))
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a data file: objects as JSON, strings as they are."""

    def to_file(lines: list[Any]) -> Path:
        path = tmp_path / "data.jsonl"
        path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines))
        return path

    return to_file


@pytest.fixture(scope="session")
def prompter(tiny_base: BaseModel) -> Prompter:
    return Prompter(tiny_base)


@pytest.fixture(scope="session")
def invocation(prompter: Prompter) -> Invocation:
    return Invocation(
        text=INVOCATION_TEXT, ids=prompter.encode(INVOCATION_TEXT), position=Position.AFTER_PROMPT
    )


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are rounded in the order of threads: a run and the one it is compared with have the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
