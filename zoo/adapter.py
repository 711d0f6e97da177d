"""A read-only view of one adapter folder."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.layouts import CONFIG_NAME, find_adapter
from zoo.safetensors_header import Header, read_header

if TYPE_CHECKING:
    from zoo.specs.adapter_config import AdapterConfig
    from zoo.specs.io import IOSpec
    from zoo.specs.io_file import IODocument
    from zoo.specs.lock import Lock
    from zoo.specs.release import ReleaseSpec

WEIGHTS_NAME = "adapter_model.safetensors"
RELEASE_NAME = "zoo.yaml"
LOCK_NAME = "zoo.lock.json"
CARD_NAME = "README.md"
IO_NAME = "io.yaml"
NOTES_NAME = "NOTES.md"
BOM_NAME = "bom.cdx.json"
PROVENANCE_NAME = "provenance.intoto.jsonl"
SIGSTORE_NAME = "provenance.sigstore.json"
SIGNATURES = (PROVENANCE_NAME, SIGSTORE_NAME)

VECTORS_NAME = "conformance.safetensors"

# All that zoo puts into a release, and what it fetches of one: no optimiser states, no pickles.
RELEASED = (
    CONFIG_NAME, WEIGHTS_NAME, VECTORS_NAME, RELEASE_NAME, CARD_NAME, IO_NAME, LOCK_NAME, NOTES_NAME,
    BOM_NAME, *SIGNATURES,
)  # fmt: skip

# Written by machines: a file of these that differs from its record is not what the evidence is about.
# Everything else (zoo.yaml, io.yaml, notes, a licence) is the author's, who may edit it afterwards.
MADE = frozenset({CONFIG_NAME, WEIGHTS_NAME, VECTORS_NAME})


@dataclass(frozen=True, kw_only=True)
class AdapterRepo:
    """One adapter folder; every file is read when it is first asked for, within bounds. Nothing here writes.

    Attributes:
        root: the folder that holds `adapter_config.json`.
        name: what messages call it.
        commit: the Hub commit it was downloaded at, else empty.
    """

    root: Path
    name: str
    commit: str = ""

    @classmethod
    def open(cls, path: Path, *, commit: str = "") -> "AdapterRepo":
        """Opens an adapter folder, or the only adapter in a library folder.

        Raises:
            NotFoundError: no such path, or no adapter there.
            UsageError: several adapters there.
        """
        placement = find_adapter(path)
        return cls(root=placement.folder, name=placement.intrinsic, commit=commit)

    @cached_property
    def config(self) -> "AdapterConfig":
        """`adapter_config.json`.

        Raises:
            SpecError: ZC001, unreadable or out of bounds.
        """
        from zoo.specs.adapter_config import AdapterConfig
        from zoo.specs.document import read_json

        return read_json(self.root / CONFIG_NAME, AdapterConfig, code="ZC001")

    @cached_property
    def tensors(self) -> Header:
        """The header of `adapter_model.safetensors`.

        Raises:
            NotFoundError: there is no such file.
            RefusedError: ZF003, it is not a well-formed safetensors file.
        """
        from zoo.errors import NotFoundError

        if not self.weights_path.is_file():
            raise NotFoundError(
                f"{self.root} holds no {WEIGHTS_NAME}",
                hint="save the adapter with PEFT's save_pretrained, which writes safetensors",
            )
        return read_header(self.weights_path)

    @cached_property
    def release(self) -> "ReleaseSpec | None":
        """`zoo.yaml`, or None when there is none.

        Raises:
            SpecError: ZM001, it breaks its specification.
        """
        from zoo.specs.document import read_yaml
        from zoo.specs.release import ReleaseSpec

        path = self.root / RELEASE_NAME
        return read_yaml(path, ReleaseSpec, code="ZM001") if path.is_file() else None

    @cached_property
    def io_document(self) -> "IODocument | None":
        """`io.yaml` with the places of its parts, or None when there is none.

        Raises:
            SpecError: ZO001 to ZO011, it breaks its specification.
        """
        from zoo.specs.io_file import read_io_document

        path = self.root / IO_NAME
        return read_io_document(path) if path.is_file() else None

    @cached_property
    def io_spec(self) -> "IOSpec | None":
        """`io.yaml`, or None when there is none.

        Raises:
            SpecError: ZO001 to ZO011, it breaks its specification.
        """
        document = self.io_document
        return document.spec if document else None

    @cached_property
    def lock(self) -> "Lock | None":
        """`zoo.lock.json`, or None when there is none.

        Raises:
            SpecError: ZL001, it breaks its specification.
        """
        from zoo.specs.document import read_json
        from zoo.specs.lock import Lock

        path = self.root / LOCK_NAME
        return read_json(path, Lock, code="ZL001") if path.is_file() else None

    @property
    def weights_path(self) -> Path:
        """Where the weights are, or would be."""
        return self.root / WEIGHTS_NAME
