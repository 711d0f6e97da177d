"""Checks of the engine itself, made once for adapters that take the same way through it."""

from collections.abc import Callable, Iterable
from functools import wraps

from zoo.report import Finding
from zoo.validators.check import Context, Measurement
from zoo.validators.conformance.shown import said_of

Run = Callable[[Context], Iterable[Finding | Measurement]]


def once_a_kind(run: Run) -> Run:
    """A check that is made on the first adapter of each kind in a run, and holds for the others of it.

    For checks of how the engine keeps adapters, rows and calls apart. That does not depend on the numbers in
    the factors: adapters of one kind (`Session.kind`: the same invocation, modules, ranks and settings on one
    base) go through the same code with the same shapes. Their results name the adapter that it was shown on.
    What was not shown (a finding, or nothing decided) is tried again on the next one.
    """

    @wraps(run)
    def once(context: Context) -> Iterable[Finding | Measurement]:
        session, what = context.session, f"{run.__module__}.{run.__qualname__}"
        if shown_on := session.rig.shown.find(what, session):
            yield Measurement(name="shown_on", value=said_of(shown_on))
            return
        said = list(run(context))
        if not any(isinstance(item, Finding) for item in said):
            session.rig.shown.add(what, session)
        yield from said

    return once
