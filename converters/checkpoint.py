"""The neutral form of a LoRA checkpoint: per module, the factors as the source stored them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.specs.adapter_config import AdapterConfig

if TYPE_CHECKING:
    from zoo.converters.forms import Form
    from zoo.converters.source import Source
    from zoo.models import BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraCheckpoint:
    """One adapter, read and understood, with nothing in it that an aLoRA could not compute.

    Attributes:
        format: the reader's name.
        folder: where it was read.
        name: the intrinsic's name as the layout gives it.
        config: its config.
        modules: by module path of the base model, what loads that module's factors when it is needed.
        shapes: `(out_features, in_features)` of each of those modules in the base.
        digests: sha256 of each input file, by name.
        invocation: ids and text that the source itself carries, else None.
        renames: module paths and tensor names that were read under another name.
        notes: what the plan says about how it was read.
        lost: what the source has and the result will not have.
        warnings: what the user should look at.
        original: a folder that PEFT loads and that computes what the factors only approximate; else None.
    """

    format: str
    folder: Path
    name: str
    config: AdapterConfig
    modules: Mapping[str, Callable[[], "Form"]]
    shapes: Mapping[str, tuple[int, int]]
    digests: Mapping[str, str]
    invocation: "SourceInvocation | None" = None
    renames: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    original: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInvocation:
    """The invocation that a source carries; one of the two is given.

    Attributes:
        ids: from `alora_invocation_tokens`; empty in the legacy format.
        text: from `invocation_string`; empty in PEFT's format.
    """

    ids: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What the user says where a source does not.

    Attributes:
        initial: the adapter as it was before training, for inits that change the base weights.
        max_error: the relative error that is accepted of a module without an exact form; None for none.
        alpha: of a format that does not store it.
        cut: the rank at which an update without an exact form is cut, for a recovery to begin there; None to
            refuse it.
    """

    initial: Path | None = None
    max_error: float | None = None
    alpha: float | None = None
    cut: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One format.

    Attributes:
        name: as plans and locks call it.
        accepts: whether a folder is of this format, by content.
        read: reads it, given the base model and what the user says.
    """

    name: str
    accepts: Callable[["Source"], bool]
    read: Callable[["Source", "BaseModel", ReadOptions], LoraCheckpoint] = field(repr=False)
