"""Opens an engine for the vectors by its name, and runs them on it."""

from dataclasses import replace

from zoo.errors import UsageError
from zoo.models import Dtype, resolve
from zoo.progress import Progress, silent
from zoo.validators.conformance.vectors.black_box import BlackBox
from zoo.validators.conformance.vectors.case import ADAPTERS, MODEL, Group
from zoo.validators.conformance.vectors.outcome import VectorReport
from zoo.validators.conformance.vectors.runner import VectorEngine, run_vectors

FULL = ("reference", "peft", "peft-offsets")


def names() -> tuple[str, ...]:
    """The engines that the vectors can be run on here, installed or not."""
    from zoo.validators.conformance.engines.kinds import ENGINES

    return (*FULL, *(kind.name for kind in ENGINES if kind.name not in FULL))


def open_engine(name: str, *, dtype: Dtype = "float32", device: str = "cpu") -> VectorEngine:
    """An engine on the shipped model and adapters; a `BlackBox` has to be closed.

    Args:
        name: one of `names()`.
        dtype: of the weights, for engines on torch.
        device: a torch device string, for engines on torch.

    Raises:
        UsageError: there is no engine of that name.
        MissingExtraError: it is not installed.
    """
    from zoo.validators.conformance.vectors.peft_engine import PeftEngine, PeftWithOffsets
    from zoo.validators.conformance.vectors.reference_engine import ReferenceEngine

    if name not in names():
        raise UsageError(f"no engine is called {name[:40]!r}", hint=f"known are {', '.join(names())}")
    if name == "reference":
        return ReferenceEngine(dtype=dtype, device=device)
    if name in FULL:
        kind = PeftEngine if name == "peft" else PeftWithOffsets
        return kind(dtype=dtype, device=device)
    return _black_box(name, dtype, device)


def run_on(
    name: str,
    groups: tuple[Group, ...] | None = None,
    *,
    tolerance: float | None = None,
    dtype: Dtype = "float32",
    device: str = "cpu",
    progress: Progress = silent,
) -> VectorReport:
    """Opens an engine by its name, runs vectors on it, and closes it.

    Args:
        name: one of `names()`.
        groups: what to run; all shipped vectors when None.
        tolerance: in nats; when None each vector's own, which is for float32.
        dtype: of the weights, for engines on torch.
        device: a torch device string, for engines on torch.
        progress: told after each vector.

    Raises:
        UsageError: there is no engine of that name.
        MissingExtraError: it is not installed.
    """
    engine = open_engine(name, dtype=dtype, device=device)
    try:
        report = run_vectors(engine, groups, tolerance=tolerance, progress=progress)
    finally:
        if isinstance(engine, BlackBox):
            engine.close()
    return replace(report, engine=name)


def _black_box(name: str, dtype: Dtype, device: str) -> BlackBox:
    from zoo.adapter import AdapterRepo
    from zoo.errors import MissingExtraError
    from zoo.validators.conformance.engines.engine import Engine
    from zoo.validators.conformance.engines.kinds import Setting, kind_of
    from zoo.validators.conformance.engines.torch_engines import TorchEngine

    kind, base = kind_of(name), resolve(str(MODEL))
    if kind.find() is None:
        raise MissingExtraError(f"{name} is not installed", hint=kind.install)

    def opening(adapter: str) -> Engine:
        repo = AdapterRepo.open(ADAPTERS[adapter])
        return kind.open(Setting(base=base, repo=repo, dtype=dtype, device=device))

    return BlackBox(kind.convention(), opening, keeps=lambda engine: not isinstance(engine, TorchEngine))
