"""A flow that was opened: its file, and the contract of each adapter it uses."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.contracts.contract import Contract, read_contract
from zoo.contracts.fields import Field, fields
from zoo.errors import ZooError
from zoo.specs.flow import BASE, FLOW_NAME, FlowSpec, Step
from zoo.specs.flow_file import FlowDocument, read_flow
from zoo.specs.json_shape import shape_of
from zoo.specs.reference import EVERY, REQUEST, Reference

TEXT: Mapping[str, Any] = {"type": "string"}
MESSAGES: Mapping[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"role": TEXT, "content": TEXT},
        "required": ["role", "content"],
    },
}
DOCUMENTS: Mapping[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"text": TEXT, "doc_id": TEXT, "title": TEXT},
        "required": ["text"],
    },
}
REQUEST_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"messages": MESSAGES, "documents": DOCUMENTS, "arguments": {"type": "object"}},
    "required": ["messages", "documents", "arguments"],
}


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A flow file and what it composes.

    Attributes:
        path: of the file.
        document: the file, read.
        contracts: of the adapters, by the id of the step that uses one; None for one that cannot be read.
        faults: why one cannot be read, by step.
    """

    path: Path
    document: FlowDocument
    contracts: Mapping[str, Contract | None]
    faults: Mapping[str, ZooError]

    @classmethod
    def open(cls, path: Path) -> "Flow":
        """Opens a flow file, or the `flow.yaml` of a folder.

        Raises:
            NotFoundError: no such file.
            SpecError: it breaks its specification.
        """
        path = path / FLOW_NAME if path.is_dir() else path
        document = read_flow(path)
        contracts: dict[str, Contract | None] = {}
        faults: dict[str, ZooError] = {}
        for step in document.spec.steps:
            if step.use == BASE:
                continue
            try:
                contracts[step.id] = read_contract(adapter_folder(path, step))
            except ZooError as error:
                contracts[step.id] = None
                faults[step.id] = error
        return cls(path=path, document=document, contracts=contracts, faults=faults)

    @property
    def spec(self) -> FlowSpec:
        """What the file says."""
        return self.document.spec

    def folder(self, step: Step) -> Path:
        """Where a step's adapter is."""
        return adapter_folder(self.path, step)

    def result(self, head: str) -> Mapping[str, Field] | None:
        """The fields of what a reference's head names; None when nobody knows them."""
        if head == REQUEST:
            return fields(shape_of(REQUEST_SCHEMA))
        step = self.step(head)
        if step is None:
            return None
        if step.use == BASE:
            return fields(shape_of(TEXT))
        contract = self.contracts[head]
        if contract is None:
            return None
        return fields(shape_of(TEXT)) if contract.result is None else contract.result

    def step(self, name: str) -> Step | None:
        """The step of an id."""
        return next((step for step in self.spec.steps if step.id == name), None)

    def field(self, reference: Reference) -> Field | None:
        """What a reference leads to; None when the result's schema leaves it open.

        Raises:
            KeyError: the schema excludes it; the message says where it ends and what is there.
        """
        known = self.result(reference.head)
        if known is None:
            return None
        place, missing = "$", False
        for part in reference.path:
            here = known[place]
            missing = missing or not here.always
            step = _below(known, place, part)
            if step is None:
                if not here.types or (here.types & {"object", "array"} and not _children(known, place)):
                    return None
                raise KeyError(_nothing(reference, part, here, _children(known, place)))
            place = step
        found = known[place]
        return replace(found, always=found.always and not missing)


def adapter_folder(path: Path, step: Step) -> Path:
    """A step's folder, relative to the flow file."""
    return path.parent / Path(step.use).expanduser()


def _below(known: Mapping[str, Field], place: str, part: str) -> str | None:
    for candidate in (f"{place}.{part}", f"{place}.{part!r}", f"{place}[{part}]"):
        if candidate in known:
            return candidate
    return f"{place}[]" if (part == EVERY or part.isdecimal()) and f"{place}[]" in known else None


def _children(known: Mapping[str, Field], place: str) -> list[str]:
    return [name.removeprefix(place).lstrip(".") for name, field in known.items() if field.parent == place]


def _nothing(reference: Reference, part: str, here: Field, children: list[str]) -> str:
    has = f"it has {', '.join(children)}" if children else f"it is {here.describe()}"
    at = reference.head + here.place.removeprefix("$")
    return f"{reference} names nothing: there is no {part!r} in {at}, {has}"
