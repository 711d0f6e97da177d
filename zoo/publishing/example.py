"""One worked example of a contract: a sample request, run on the release as it is about to be published."""

from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.errors import ContractError, RefusedError
from zoo.specs.lock import ExampleRecord


def worked_example(stage: Path, *, base: str = "", device: str = "cpu") -> ExampleRecord | None:
    """Answers the first sample request of a release.

    Args:
        stage: a release folder.
        base: what to resolve as base model; empty takes the one that `zoo.yaml` names.
        device: torch device.

    Returns:
        What was asked, written and made of it; None where there is no contract, or no sample request.

    Raises:
        RefusedError: ZH014, the release cannot answer its own sample request.
        BaseMissingError: there is no base here.
    """
    from zoo.intrinsic import Intrinsic

    repo = AdapterRepo.open(stage)
    if repo.io_spec is None or repo.release is None or not repo.release.requests:
        return None
    sample = repo.release.requests[0]
    intrinsic = Intrinsic.load(stage, base=base, device=device)
    try:
        answer = intrinsic.ask(sample.as_request(), sample.arguments)
    except ContractError as error:
        raise RefusedError(
            f"{repo.name} cannot answer the first of its own requests: {error.message}",
            hint=error.hint or "mend io.yaml, zoo.yaml or the adapter",
            code="ZH014",
        ) from None
    return ExampleRecord(
        request=sample.as_request(),
        arguments=dict(sample.arguments),
        reply=answer.text,
        result=answer.result,
        prefix_tokens=answer.prefix_tokens,
        suffix_tokens=answer.suffix_tokens,
    )
