from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_adapter
from tests.validators.conformance.bench import adapter_settings, context_of, invocation_ids
from zoo.models import BaseModel
from zoo.report import Outcome
from zoo.validators.check import Check, Context
from zoo.validators.conformance.engines.checks import engine_checks
from zoo.validators.engine import run_checks

Make = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """GGUF files of tiny bases must not pile up in the user's cache; the embedded base is not used here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def alora(llama: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One strong adapter on the tiny Llama, on every linear layer; read only."""
    folder = tmp_path_factory.mktemp("adapters") / "check"
    settings: dict[str, Any] = {**adapter_settings("llama"), "alora_invocation_tokens": invocation_ids(llama)}
    return build_adapter(llama, folder, **settings)


def judged(context: Context, *engines: str, checks: tuple[Check, ...] = ()) -> dict[str, Outcome]:
    """What the engine checks come to, without what they require of other checks."""
    from dataclasses import replace

    wanted = [replace(check, requires=()) for check in checks or engine_checks(engines)]
    return {result.code: result.outcome for result in run_checks(context, wanted)}


@pytest.fixture
def context(alora: Path, llama: BaseModel) -> Context:
    return context_of(alora, llama)
