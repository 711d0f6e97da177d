"""Releases on the tiny base, with and without an `io.yaml`, and intrinsics made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import INVOCATION_TEXT, build_adapter
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.intrinsic.intrinsic import open_base
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.specs.release import BaseRef, InvocationSpec, Position, ReleaseSpec, dump_release

YES_NO: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["answer"],
    "additionalProperties": False,
}
LIKELIHOOD: list[dict[str, Any]] = [
    {"type": "likelihood", "categories_to_values": {"yes": 1.0, "no": 0.0}, "input_path": ["answer"]}
]
ASK = [{"role": "user", "content": "Is the passage relevant? Answer the question"}]

MakeRelease = Callable[..., Path]


def write_io(folder: Path, **fields: Any) -> None:
    """An io.yaml: JSON is YAML."""
    known = {"model": None, "response_format": None, "transformations": None}
    (folder / "io.yaml").write_text(json.dumps(known | fields))


@pytest.fixture(scope="session")
def shared(tiny_base: BaseModel) -> SharedBase:
    return open_base(tiny_base)


@pytest.fixture
def make_release(tiny_base: BaseModel, tmp_path: Path) -> MakeRelease:
    """Makes release folders: `make_release("name", io={...}, position=..., text=...)`."""

    def make(
        name: str = "relevance",
        *,
        io: dict[str, Any] | None = None,
        position: Position = Position.AFTER_PROMPT,
        text: str = INVOCATION_TEXT,
        strength: float = 0.5,
    ) -> Path:
        ids = list(Prompter(tiny_base).encode(text))
        folder = build_adapter(tiny_base, tmp_path / name, strength=strength, alora_invocation_tokens=ids)
        spec = ReleaseSpec(
            name=name,
            base=BaseRef(id=tiny_base.id),
            invocation=InvocationSpec(text=text, position=position),
        )
        (folder / "zoo.yaml").write_text(dump_release(spec))
        if io is not None:
            write_io(folder, **io)
        return folder

    return make


@pytest.fixture
def yes_no(make_release: MakeRelease, shared: SharedBase) -> Intrinsic:
    """Answers yes or no, as the likelihood of yes."""
    io = {"response_format": YES_NO, "transformations": LIKELIHOOD}
    return Intrinsic.load(make_release(io=io), shared=shared)
