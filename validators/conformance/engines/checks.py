"""ZE: the engine somebody will serve the adapter with, against the reference and against itself.

The codes are the same for every engine; its name stands in the title, in each finding and in the name of
each measurement. Everything is measured when the first check of an engine runs, which starts and stops it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from zoo.adapter import WEIGHTS_NAME
from zoo.errors import UndecidedError, ZooError
from zoo.report import Finding, Location
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.conformance.engines import judging
from zoo.validators.conformance.engines.kinds import EngineKind, Setting, kind_of
from zoo.validators.conformance.engines.measuring import EngineEvidence, measure_engine
from zoo.validators.conformance.engines.refusal import EngineRefusesError
from zoo.validators.conformance.said import not_activated

NEEDS = frozenset({Need.BASE, Need.TORCH, Need.ENGINE})
REQUIRES = ("ZR001",)  # the reference must be right about this adapter before an engine is held against it


@dataclass(kw_only=True)
class _Bench:
    """One engine's measurements on the adapter that was asked for last.

    Attributes:
        kind: the engine.
    """

    kind: EngineKind
    _context: Context | None = field(default=None, repr=False)
    _found: EngineEvidence | ZooError | None = field(default=None, repr=False)

    def first(self, context: Context) -> EngineEvidence:
        """Opens the engine, measures, closes it.

        Raises:
            ZooError: the engine did not start, refused the adapter, or failed.
        """
        self._context, self._found = context, None
        try:
            self._found = self._measure(context)
        except ZooError as error:
            self._found = error
            raise
        return self._found

    def evidence(self, context: Context) -> EngineEvidence:
        """What `first` measured.

        Raises:
            UndecidedError: it measured nothing.
        """
        if self._context is not context or not isinstance(self._found, EngineEvidence):
            raise UndecidedError(f"ZE001 did not pass for {self.kind.name}")
        return self._found

    def _measure(self, context: Context) -> EngineEvidence:
        session = context.session
        setting = Setting(
            base=context.known_base,
            repo=context.repo,
            dtype=context.dtype,
            device=context.device,
            options=context.engine_options,
            model=session.model,
        )
        engine = self.kind.open(setting)
        try:
            exact = bool(getattr(engine, "exact", False)) and context.dtype == "float32"
            return measure_engine(engine, session, exact=exact)
        finally:
            engine.close()


def engine_checks(names: Sequence[str]) -> tuple[Check, ...]:
    """The checks of several engines, engine by engine.

    Args:
        names: of `kinds.ENGINES`.

    Raises:
        UsageError: an unknown name.
    """
    return tuple(check for name in dict.fromkeys(names) for check in _checks_of(kind_of(name)))


_JUDGED: dict[str, tuple[str, Callable[[EngineEvidence], Iterable[Finding | Measurement]]]] = {
    "ZE002": ("computes the reference's numbers under its known rule", judging.parity),
    "ZE003": ("activates the adapter where the rule says", judging.rule),
    "ZE004": ("continues from the base's prefix as from a cold run", judging.handed_over),
    "ZE005": ("leaves nothing in its cache that changes a later answer", judging.taint),
    "ZE006": ("controls: the adapter acts, and a shifted start would show", judging.controls),
}


def _checks_of(kind: EngineKind) -> tuple[Check, ...]:
    bench = _Bench(kind=kind)
    opens = _check("ZE001", kind.name, "takes the adapter", partial(_opens, bench))
    rest = [
        _check(code, kind.name, title, partial(_judges, bench, code)) for code, (title, _) in _JUDGED.items()
    ]
    return (opens, *rest)


def _check(
    code: str, name: str, title: str, run: Callable[[Context], Iterable[Finding | Measurement]]
) -> Check:
    return Check(
        code=code, title=f"{name} {title}", run=run, requires=REQUIRES, needs=NEEDS, unless=not_activated
    )


def _opens(bench: _Bench, context: Context) -> Iterable[Finding | Measurement]:
    """ZE001: the engine is there and takes the adapter."""
    name, known = bench.kind.name, bench.kind.convention()
    installed = bench.kind.find()
    if installed:
        yield Measurement(name=f"{name}_version", value=installed.version or "unknown")
        yield Measurement(name=f"{name}_place", value=installed.place.partition(" ")[0].rpartition("/")[2])
    try:
        bench.first(context)
    except EngineRefusesError as error:
        yield _finding(name, judging.refusal(known, error.message))
        return
    if news := judging.taken(known):
        yield _finding(name, news)


def _judges(bench: _Bench, code: str, context: Context) -> Iterable[Finding | Measurement]:
    """ZE002 to ZE006: what was measured, judged."""
    return _named(bench.kind.name, _JUDGED[code][1](bench.evidence(context)))


def _named(name: str, said: Iterable[Finding | Measurement]) -> Iterable[Finding | Measurement]:
    """Puts the engine's name before each measurement and in each finding."""
    for item in said:
        if isinstance(item, Measurement):
            yield Measurement(name=f"{name}_{item.name}", value=item.value)
        else:
            yield _finding(name, item)


def _finding(name: str, said: Finding) -> Finding:
    pointer = said.location.pointer if said.location else ""
    where = f"{name}: {pointer}" if pointer else name
    return Finding(
        message=f"{name}: {said.message}",
        severity=said.severity,
        location=Location(file=WEIGHTS_NAME, pointer=where),
        fix=said.fix,
    )
