"""A recorded training done again, and whether the same weights came out."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.adapter import IO_NAME, RELEASE_NAME, WEIGHTS_NAME, AdapterRepo
from zoo.errors import SpecError, VerdictError
from zoo.progress import Progress, silent
from zoo.provenance import sha256_file
from zoo.specs.lock import TrainingRecord
from zoo.training.project import Project
from zoo.training.record import settings_from
from zoo.training.train import Trained, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A recorded training.

    Attributes:
        training: the record.
        what: arguments of `plan_training`, besides the data.
    """

    training: TrainingRecord
    what: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """A training done again.

    Attributes:
        trained: the second one.
        original: the folder of the first.
        differs: what is different here from where the first was run, by name: then and now.
    """

    trained: Trained
    original: Path
    differs: dict[str, tuple[Any, Any]]

    def lines(self) -> list[str]:
        """The result for people, a line a fact."""
        return [*self.trained.lines(), f"repeats      {self.original}: the weights are the same, bit for bit"]

    def to_document(self) -> dict[str, Any]:
        """The result as plain data."""
        return {**self.trained.to_document(), "repeats": str(self.original)}


def recorded(folder: Path, *, base: str = "", eval_data: Path | None = None) -> Recorded:
    """The training that a release's lock records.

    Args:
        folder: the release.
        base: where its base model is, when it is not where `zoo.yaml` says.
        eval_data: the evaluation data, if it had a file of its own.

    Raises:
        SpecError: the folder's lock has no training record that could be repeated, or it was measured on
            other data.
        NotFoundError: it has no lock.
    """
    repo = AdapterRepo.open(folder)
    lock, spec = repo.lock, repo.release
    if lock is None or spec is None or lock.training is None:
        raise SpecError(
            f"{folder} records no training",
            hint=f"name a folder that zoo train made, with its {RELEASE_NAME}",
        )
    training = lock.training
    settings = settings_from(training, eval_data=eval_data)
    _check_evaluation(folder, training, eval_data)
    what = {
        "base": base,
        "project": _project(folder, training),
        "settings": settings,
    }
    return Recorded(training=training, what=what)


def _check_evaluation(folder: Path, training: TrainingRecord, eval_data: Path | None) -> None:
    """Data of its own to measure on decide what is held out of the others, and with it the weights."""
    measured = training.settings["data"]["eval_data"]  # its digest; that of the data where there was none
    own = measured != training.data_sha256
    if own and eval_data is None:
        raise SpecError(
            f"{folder} was measured on data of its own, and nothing was held out of what it was trained on",
            hint=f"give them with --eval-data; their sha256 is {measured}",
        )
    if eval_data and eval_data.is_file() and sha256_file(eval_data) != measured:
        raise SpecError(
            f"{eval_data} is not the data that {folder} was measured on"
            + ("" if own else ": a part of the data was held out"),
            hint="their sha256 is in the lock" if own else "leave --eval-data out",
        )


def _project(folder: Path, training: TrainingRecord) -> Project:
    """What the release says; its `io.yaml` decides prompts if it did when it was trained."""
    project = Project.open(folder)
    trained_with = training.settings.get("io_sha256")
    if trained_with is None:  # an io.yaml that is there was put beside the weights afterwards
        return replace(project, contract=None)
    if project.contract is None or project.contract.sha256 != trained_with:
        raise SpecError(
            f"{folder} was trained with another {IO_NAME} than it has now", hint="its sha256 is in the lock"
        )
    return project


def repeat(
    folder: Path,
    data: Path,
    out: Path,
    *,
    base: str = "",
    eval_data: Path | None = None,
    progress: Progress = silent,
) -> Repeated:
    """Does a recorded training again, into another folder.

    Args:
        folder: the release.
        data: the data it was trained on; its digest must be the recorded one.
        out: the folder to make.
        base: where the base model is, when it is not where `zoo.yaml` says.
        eval_data: the evaluation data, if it had a file of its own.
        progress: told about each stage.

    Raises:
        SpecError: no record, or other data.
        VerdictError: ZD008, other weights came out; the message names what differs here from there.
        ZooError: see `train`.
    """
    import torch

    found = recorded(folder, base=base, eval_data=eval_data)
    given = sha256_file(data) if data.is_file() else ""
    if given and given != found.training.data_sha256:
        raise SpecError(
            f"{data} is not the data that {folder} was trained on", hint="its sha256 is in the lock"
        )
    settings = found.training.settings
    torch.set_num_threads(settings["environment"]["threads"])  # sums are rounded by how they are split
    device, dtype = settings["device"], settings["base_dtype"]
    trained = train(data, out, device=device, dtype=dtype, progress=progress, **found.what)
    differs = _differences(found.training, trained.training)
    if sha256_file(folder / WEIGHTS_NAME) != sha256_file(trained.folder / WEIGHTS_NAME):
        said = "; ".join(f"{name} was {old}, is {new}" for name, (old, new) in differs.items())
        raise VerdictError(
            f"{trained.folder} has other weights than {folder}: {said or 'nothing that is recorded differs'}",
            hint="run it where the recorded versions and the recorded machine are",
            code="ZD008",
        )
    return Repeated(trained=trained, original=folder, differs=differs)


def _differences(first: TrainingRecord, second: TrainingRecord) -> dict[str, tuple[Any, Any]]:
    before, now = (
        {**one.settings["environment"], "base weights": one.settings["base_weights"], **one.versions}
        for one in (first, second)
    )
    return {name: (old, now.get(name)) for name, old in before.items() if old != now.get(name)}
