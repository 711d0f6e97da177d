"""The data that a recovery is asked to read: all there, and none that nothing would read."""

from pathlib import Path

from zoo.errors import NotFoundError, UsageError
from zoo.training.dataset import read_dataset

AUTO = "auto"  # in the place of a data file: data are made


def check_asked(
    recover: Path | str | None,
    *,
    evaluation: Path | None,
    requests: Path | None,
    values: bool,
    calibrate: bool = False,
) -> None:
    """Looks for the data before any work; where data are made, evaluation data are wanted after hours.

    Args:
        recover: a data file, `auto`, or None for no recovery.
        evaluation: data to measure on, or None.
        requests: samples of what is made, for `auto` alone.
        values: whether answers may be any JSON.
        calibrate: whether a recovery shall begin calibrated.

    Raises:
        NotFoundError: there is no such file.
        SpecError: ZD001, the evaluation data break their form.
        UsageError: data are named that nothing would read.
    """
    if requests and str(recover) != AUTO:
        raise UsageError(
            f"nothing would read the sample requests of {requests}",
            hint="--requests is for --recover auto, which writes more like them",
        )
    if evaluation and not recover:
        raise UsageError(f"nothing would be measured on {evaluation}", hint="--eval-data is for --recover")
    if calibrate and not recover:
        raise UsageError("nothing would be calibrated", hint="--calibrate is for --recover DATA")
    if recover and str(recover) != AUTO and not Path(recover).is_file():
        raise NotFoundError(f"{recover} does not exist", hint="give a JSONL file of messages and answers")
    if evaluation:
        read_dataset(evaluation, values=values)
