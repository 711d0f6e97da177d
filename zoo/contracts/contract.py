"""The contract of a release: what its caller gives, what he gets, and how the adapter is reached.

It is read from the three small files that say it (`io.yaml`, `zoo.yaml`, `adapter_config.json`), any of which
may be missing: a published library has no `zoo.yaml`, a project that is being written has no config yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.adapter import IO_NAME, RELEASE_NAME
from zoo.contracts.fields import Field, fields
from zoo.errors import NotFoundError, SpecError
from zoo.layouts import CONFIG_NAME, find_adapter
from zoo.specs.adapter_config import AdapterConfig
from zoo.specs.document import read_json, read_yaml
from zoo.specs.io import DecodeSentences, IOSpec, Likelihood
from zoo.specs.io_pipeline import trace
from zoo.specs.io_template import TemplateError, read_template
from zoo.specs.release import ReleaseSpec

CONTRACT_FILES = (RELEASE_NAME, IO_NAME, CONFIG_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a caller gives.

    Attributes:
        arguments: what the instruction wants besides the conversation.
        sources: where the sentences are that the result points to: `last_message`, `documents`, …
        last_role: role of the last message in the release's sample requests, else in its samples; empty when
            they differ, or there are none.
    """

    arguments: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    last_role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a release promises.

    Attributes:
        where: a folder, or a repository with its revision, for people.
        name: the intrinsic's; empty when no file says it.
        version: of `zoo.yaml`; empty when there is none.
        inputs: what a caller gives.
        result: the result's places by name; None when there is no `io.yaml`.
        categories: number of each category by the place of the likelihood; keys as JSON spells them.
        invocation: `ids`, `text`, `position`, as far as the files say them.
        base: `id`, `revision`, as far as the files say them.
        request: what is sent to the model on the caller's behalf, by the names of `io.yaml`.
    """

    where: str
    name: str = ""
    version: str = ""
    inputs: Inputs = field(default_factory=Inputs)
    result: Mapping[str, Field] | None = None
    categories: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    invocation: Mapping[str, str] = field(default_factory=dict)
    base: Mapping[str, str] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)


def read_contract(folder: Path, *, where: str = "") -> Contract:
    """Reads a contract off a release, an adapter folder, a project, or a library folder with one adapter.

    Args:
        folder: where the files are.
        where: what messages call it; the folder's path when empty.

    Raises:
        NotFoundError: none of the files is there.
        UsageError: several adapters are.
        SpecError: a file breaks its specification.
    """
    from zoo.specs.io_file import read_io

    if not folder.is_dir():
        raise NotFoundError(
            f"{folder} is not a folder", hint="give a release's folder, or ORG/NAME on the Hub"
        )
    if not any((folder / name).is_file() for name in CONTRACT_FILES):
        folder = find_adapter(folder).folder
    release = _read(folder / RELEASE_NAME, lambda path: read_yaml(path, ReleaseSpec, code="ZM001"))
    spec = _read(folder / IO_NAME, read_io)
    config = _read(folder / CONFIG_NAME, lambda path: read_json(path, AdapterConfig, code="ZC001"))
    return contract_of(spec, release, config, where=where or str(folder))


def contract_of(
    spec: IOSpec | None, release: ReleaseSpec | None, config: AdapterConfig | None, *, where: str
) -> Contract:
    """The contract that the files state; each may be missing.

    Raises:
        SpecError: the instruction is no template.
    """
    return Contract(
        where=where,
        name=(spec and spec.name) or (release.name if release else ""),
        version=release.version if release else "",
        inputs=Inputs(
            arguments=arguments(spec.instruction or "") if spec else frozenset(),
            sources=_sources(spec) if spec else frozenset(),
            last_role=_last_role(release) if release else "",
        ),
        result=fields(trace(spec).result) if spec else None,
        categories=_categories(spec) if spec else {},
        invocation=_invocation(release, config),
        base=_base(release, config),
        request=_request(spec) if spec else {},
    )


def arguments(instruction: str) -> frozenset[str]:
    """The names that an instruction's template wants from the caller.

    Raises:
        SpecError: its braces are wrong.
    """
    try:
        return frozenset(read_template(instruction).arguments)
    except TemplateError as error:
        raise SpecError(f"{IO_NAME}: instruction: {error}", code="ZO023") from None


def _read(path: Path, reader: Any) -> Any:
    return reader(path) if path.is_file() else None


def _sources(spec: IOSpec) -> frozenset[str]:
    decoded = [one for one in spec.transformations if isinstance(one, DecodeSentences)]
    return frozenset(place for one in decoded for place in one.sources)


def _last_role(release: ReleaseSpec) -> str:
    shown = [request.messages for request in release.requests] or [one for one in release.samples if one]
    roles = {messages[-1].role for messages in shown}
    return roles.pop() if len(roles) == 1 else ""


def _categories(spec: IOSpec) -> dict[str, dict[str, float]]:
    import json

    return {
        ".".join("*" if part is None else str(part) for part in one.input_path) or "the reply": {
            json.dumps(category): number for category, number in one.categories_to_values.items()
        }
        for one in spec.transformations
        if isinstance(one, Likelihood)
    }


def _invocation(release: ReleaseSpec | None, config: AdapterConfig | None) -> dict[str, str]:
    found = {}
    if config is not None:
        ids = list(config.alora_invocation_tokens or ())
        found["ids"] = str(ids) if ids else "none, it is a plain LoRA"
    if release is not None:
        found["text"] = repr(release.invocation.text)
        found["position"] = release.invocation.position.value
    return found


def _base(release: ReleaseSpec | None, config: AdapterConfig | None) -> dict[str, str]:
    if release is not None:
        return {"id": release.base.id, "revision": release.base.revision or ""}
    return {"id": (config.base_model_name_or_path or "") if config is not None else ""}


def _request(spec: IOSpec) -> dict[str, Any]:
    stated: dict[str, Any] = spec.model_dump(mode="json", exclude_defaults=True)
    stated.pop("name", None)
    return stated
