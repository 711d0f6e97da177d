"""What each engine would do with one adapter, from its files alone: nothing is run and no torch imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

from zoo import embedded
from zoo.activation import CONVENTIONS, Behaviour, Convention, matcher_agrees
from zoo.adapter import AdapterRepo
from zoo.converters.exporters.architectures import architecture
from zoo.converters.exporters.gguf_adapter import refuse_unsayable
from zoo.errors import RefusedError, ZooError
from zoo.models import BaseModel
from zoo.validators.conformance.engines.kinds import ENGINES, Installed

Verdict = Literal["by the rule", "shifted", "base only", "every token", "refused", "cannot load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What one engine would do with one adapter.

    Attributes:
        verdict: the kind of it; anything but the first is no conformance.
        reason: one clause.
    """

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One engine in the table.

    Attributes:
        name: the engine's.
        convention: what the installed version does with an aLoRA; the newest known version where none is.
        installed: None when it is not, or when zoo cannot run it.
        install: the command; empty when zoo cannot run this engine.
        outlook: for the adapter asked about, if any.
    """

    name: str
    convention: Convention
    installed: Installed | None
    install: str
    outlook: Outlook | None


def rows(repo: AdapterRepo | None) -> list[Row]:
    """Every engine that zoo runs, then those it only knows of.

    Raises:
        SpecError: the adapter's config is unreadable.
    """
    config = _base_config(repo) if repo else None
    found = []
    for kind in ENGINES:
        installed = kind.find()
        convention = kind.known(installed.version if installed else "")
        found.append(
            Row(
                name=kind.name,
                convention=convention,
                installed=installed,
                install=kind.install,
                outlook=outlook(convention, repo, config) if repo else None,
            )
        )
    run = {kind.name for kind in ENGINES}
    found += [
        Row(
            name=convention.engine,
            convention=convention,
            installed=None,
            install="",
            outlook=outlook(convention, repo, config) if repo else None,
        )
        for convention in CONVENTIONS
        if convention.engine not in run
    ]
    return found


def outlook(convention: Convention, repo: AdapterRepo, base_config: Mapping[str, Any] | None) -> Outlook:
    """What an engine would do with an adapter.

    Args:
        convention: what the engine does with an aLoRA.
        repo: the adapter.
        base_config: its base's `config.json`; None when it is not at hand.

    Raises:
        SpecError: the adapter's config is unreadable.
    """
    if not repo.config.is_activated:
        return Outlook(verdict="every token", reason="it has no invocation tokens: a plain LoRA everywhere")
    match convention.behaviour:
        case Behaviour.REFUSED:
            return Outlook(verdict="refused", reason=convention.note)
        case Behaviour.PLAIN_LORA:
            return Outlook(verdict="every token", reason="its prefix too: another function, without a word")
        case Behaviour.NEVER_ACTIVE:
            return Outlook(verdict="base only", reason="it would not act at all, without a word")
        case Behaviour.ACTIVATED:
            return _activated(convention, repo, base_config)
        case _ as unreachable:
            assert_never(unreachable)


def _activated(convention: Convention, repo: AdapterRepo, base_config: Mapping[str, Any] | None) -> Outlook:
    ids = repo.config.alora_invocation_tokens or []
    if convention.engine == "peft" and repo.config.task_type != "CAUSAL_LM":
        return Outlook(verdict="base only", reason=f"task_type is {repo.config.task_type!r}, not CAUSAL_LM")
    if convention.engine == "llama-server" and (reason := _unexportable(repo, base_config)):
        return Outlook(verdict="cannot load", reason=reason)
    if convention.rescans_suffix_only and not matcher_agrees(ids):
        return Outlook(
            verdict="base only",
            reason="its matcher can miss this invocation, whose last id occurs in it before the end",
        )
    if convention.shift:
        far = "early" if convention.shift < 0 else "late"
        return Outlook(verdict="shifted", reason=f"acts {abs(convention.shift)} token {far}")
    return Outlook(verdict="by the rule", reason="acts from the invocation's first token")


def _unexportable(repo: AdapterRepo, base_config: Mapping[str, Any] | None) -> str:
    try:
        refuse_unsayable(repo.config)
        if base_config is not None:
            architecture(base_config)
    except RefusedError as error:
        return f"{error.message} ({error.hint})"
    except ZooError as error:
        return error.message
    return ""


def _base_config(repo: AdapterRepo) -> Mapping[str, Any] | None:
    """The base's `config.json` where that needs neither a download nor a conversion."""
    named = repo.config.base_model_name_or_path or ""
    if named in (embedded.HUB_ID, embedded.NAME):
        return {"model_type": "llama"}
    folder = Path(named)
    if named and (folder / "config.json").is_file():
        return BaseModel(id=folder.name, revision="", folder=folder).config
    return None
