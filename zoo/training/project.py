"""What the author of an adapter has written about it: `zoo.yaml`, `io.yaml`, `NOTES.md`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.adapter import IO_NAME, NOTES_NAME, RELEASE_NAME
from zoo.errors import NotFoundError
from zoo.specs.document import read_bounded, read_yaml
from zoo.specs.release import ReleaseSpec
from zoo.training.contract import Contract

MAX_NOTES_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The author's part of a release.

    Attributes:
        spec: his `zoo.yaml`; None where there is an `io.yaml` alone.
        contract: his `io.yaml`, or None.
        files: content of those that a release takes over word for word, by name.
    """

    spec: ReleaseSpec | None = None
    contract: Contract | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> "Project":
        """Reads a project of `zoo init`, or a release to be trained anew.

        Raises:
            NotFoundError: there is no `zoo.yaml`.
            SpecError: ZM001 or ZO001 to ZO011, a file breaks its specification.
        """
        if not (folder / RELEASE_NAME).is_file():
            raise NotFoundError(
                f"{folder} is no project: it has no {RELEASE_NAME}",
                hint="make one with zoo init NAME --kind KIND, or give --io alone",
            )
        spec = read_yaml(folder / RELEASE_NAME, ReleaseSpec, code="ZM001")
        contract = Contract.read(folder / IO_NAME) if (folder / IO_NAME).is_file() else None
        files = {IO_NAME: contract.content} if contract else {}
        if (folder / NOTES_NAME).is_file():
            files[NOTES_NAME] = read_bounded(folder / NOTES_NAME, MAX_NOTES_BYTES)
        return cls(spec=spec, contract=contract, files=files)

    @classmethod
    def of_contract(cls, path: Path) -> "Project":
        """A contract alone.

        Raises:
            NotFoundError: there is no such file.
            SpecError: ZO001 to ZO011, it breaks its specification.
        """
        contract = Contract.read(path)
        return cls(contract=contract, files={IO_NAME: contract.content})
