"""Whether two locks are of one release: what is released counts, not which zoo wrote it or checked it."""

from typing import Any

from zoo.adapter import VECTORS_NAME
from zoo.provenance import folder_digest
from zoo.render.json import from_document
from zoo.report import Report
from zoo.specs.lock import Lock

TOOL = "alora-zoo"  # among the versions that records and reports hold


def same_release(one: Lock, other: Lock) -> bool:
    """Whether all is the same but for numbers measured anew and for the zoo that did it.

    Two runs of the checks on the same files differ in the last digits and in time, and so do two
    measurements of the vectors. A publication that is taken up again must not demand equal bytes; the same
    verdict on every check, and vectors on both sides or on none, it does demand. Another zoo may have other
    checks: of those that both have the verdicts are the same then.

    Raises:
        SpecError: the evidence of one is no report.
    """
    return _released(one) == _released(other) and _judged_alike(one, other)


def by_another_zoo(one: Lock, other: Lock) -> bool:
    """Whether two locks hold evidence of two versions of zoo."""
    if one.evidence is None or other.evidence is None:
        return False
    return not _same_zoo(from_document(one.evidence), from_document(other.evidence))


def _same_zoo(first: Report, second: Report) -> bool:
    return first.environment.get(TOOL) == second.environment.get(TOOL)


def _released(lock: Lock) -> tuple[dict[str, Any], dict[str, str]]:
    said = lock.model_dump(mode="json", exclude={"evidence", "example", "files", "zoo_version"})
    if said["training"]:
        said["training"]["versions"].pop(TOOL, None)
    return said, {name: "" if name == VECTORS_NAME else digest for name, digest in lock.files.items()}


def _judged_alike(one: Lock, other: Lock) -> bool:
    if one.evidence is None or other.evidence is None:
        return one.evidence is other.evidence
    first, second = from_document(one.evidence), from_document(other.evidence)
    if (first.status(), _about(one, first)) != (second.status(), _about(other, second)):
        return False
    verdicts, others = _verdicts(first), _verdicts(second)
    if not _same_zoo(first, second):
        shared = {code for code, _ in verdicts} & {code for code, _ in others}
        verdicts, others = (sorted(x for x in some if x[0] in shared) for some in (verdicts, others))
    return verdicts == others


def _about(lock: Lock, report: Report) -> str:
    """Which files a report is about: "" is those that the lock names, its vectors among them."""
    return "" if report.digest == folder_digest(lock.files) else report.digest


def _verdicts(report: Report) -> list[tuple[str, str]]:
    return [(result.code, type(result.outcome).__name__) for result in report.results]
