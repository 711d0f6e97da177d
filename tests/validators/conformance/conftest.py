from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_adapter
from tests.validators.conformance.bench import ARCHITECTURES, build_base, invocation_ids
from zoo.models import BaseModel


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    """One tiny base an architecture."""
    root = tmp_path_factory.mktemp("bases")
    return {name: build_base(root / name, name) for name in ARCHITECTURES}


@pytest.fixture(scope="session")
def llama(bases: dict[str, BaseModel]) -> BaseModel:
    return bases["llama"]


@pytest.fixture
def make_alora(llama: BaseModel, tmp_path: Path) -> Callable[..., Path]:
    """Makes aLoRA folders: `make_alora("name", base=qwen2, target_modules=[...])`."""

    def make(name: str = "alora", base: BaseModel = llama, **settings: Any) -> Path:
        wanted: dict[str, Any] = {"alora_invocation_tokens": invocation_ids(base), **settings}
        return build_adapter(base, tmp_path / name, **wanted)

    return make
