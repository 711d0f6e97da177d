"""The report on an adapter that no worker came to the end of."""

from zoo.ci.fleet.task import Finished, Task
from zoo.provenance import folder_digest, payload_digests
from zoo.render.json import to_document
from zoo.report import Report, Result, Skipped

LOST = "ZG012"


def lost(task: Task, reason: str) -> Finished:
    """A result that says that nothing is known: the gate is undecided, never green.

    Args:
        task: the adapter.
        reason: what became of its workers.
    """
    outcome = Skipped(reason=reason, hint=f"zoo validate {task.folder}")
    result = Result(code=LOST, title="A worker came to the end of its checks", outcome=outcome)
    report = Report(
        subject=str(task.folder), digest=folder_digest(payload_digests(task.folder)), results=[result]
    )
    return Finished(index=task.index, report=to_document(report))


def is_lost(result: Finished) -> bool:
    """Whether a result is one of `lost`."""
    return any(one["code"] == LOST for one in result.report["results"])
