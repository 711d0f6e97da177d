"""An adapter's low-rank factors: through zoo's readers where its base is at hand, else if they are plain."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import embedded
from zoo.converters.base_weights import streamed
from zoo.converters.forms import LowRank
from zoo.converters.keys import Part
from zoo.converters.modules import broken
from zoo.converters.patterns import resolve_patterns
from zoo.converters.readers import read_checkpoint
from zoo.converters.refusal import refusal
from zoo.converters.source import Source
from zoo.errors import BaseMissingError, RefusedError, ZooError
from zoo.models import BaseModel, resolve

if TYPE_CHECKING:
    from zoo.converters.checkpoint import LoraCheckpoint
    from zoo.converters.forms import Form

Load = Callable[[], LowRank]
PLAIN = frozenset({Part.A, Part.B})


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """An adapter's updates.

    Attributes:
        source: the adapter.
        base: its base model; None when it is not at hand.
        format: the reader's name; empty when none was needed.
        modules: what loads each module's plain factors, by module path; empty where there are none.
        refusal: why there are none; None when there are.
        notes: how they were read.
    """

    source: Source
    base: BaseModel | None
    format: str
    modules: Mapping[str, Load]
    refusal: ZooError | None = None
    notes: tuple[str, ...] = ()


def read_factors(path: Path, *, base: str = "") -> Factors:
    """Opens an adapter; what cannot be folded exactly is no failure here, but a finding.

    Args:
        path: an adapter folder, a library with one, or a file of weights.
        base: see `zoo.models.resolve`; when empty, the one that the adapter names, if that needs no network.

    Raises:
        NotFoundError: no such path, no adapter there, or no such base.
        SpecError: its config is unreadable.
    """
    source = Source.open(path)
    found = streamed(resolve(base, weights=False)) if base else _near(source)
    if found is None:
        return _plain(source)
    try:
        checkpoint = read_checkpoint(source, found)
    except RefusedError as refusal:
        return Factors(source=source, base=found, format="", modules={}, refusal=refusal)
    return Factors(
        source=source,
        base=found,
        format=checkpoint.format,
        modules=_folded(checkpoint),
        notes=checkpoint.notes,
    )


def _near(source: Source) -> BaseModel | None:
    """The base that the adapter names, where it is a folder of this machine or the embedded one."""
    named = source.config.base_model_name_or_path or ""
    if named == embedded.HUB_ID:
        try:
            return resolve(embedded.NAME)
        except BaseMissingError:
            return None
    return resolve(named) if named and (Path(named) / "config.json").is_file() else None


def _folded(checkpoint: "LoraCheckpoint") -> dict[str, Load]:
    def loader(load: "Callable[[], Form]") -> Load:
        return lambda: load().low_rank()

    return {path: loader(load) for path, load in checkpoint.modules.items()}


def _plain(source: Source) -> Factors:
    """Factors of a plain LoRA by PEFT's names and scales alone, which need no base.

    What is refused by its config is refused here too: a PiSSA's factors are no update of the base.
    """
    if found := refusal(source, initial=False):
        return Factors(source=source, base=None, format="", modules={}, refusal=found)
    parts = {key.part for key in source.keys.values()}
    paired: dict[str, dict[Part, str]] = {}
    for name, key in source.keys.items():
        paired.setdefault(key.path, {})[key.part] = name
    if source.config.peft_type.upper() != "LORA" or parts != PLAIN:
        missing = BaseMissingError(
            f"{source.folder.name} is no plain LoRA: its update cannot be read without its base",
            hint="name it with --base",
        )
        return Factors(source=source, base=None, format="", modules={}, refusal=missing)
    config, paths = source.config, sorted(paired)
    ranks = resolve_patterns(config.rank_pattern, paths, config.r)
    alphas = resolve_patterns(config.alpha_pattern, paths, config.lora_alpha)

    def loader(path: str) -> Load:
        def load() -> LowRank:
            names = paired[path]
            if set(names) != PLAIN:
                raise broken(f"{path} has one factor of two")
            root = math.sqrt(ranks[path]) if config.use_rslora else ranks[path]
            a, b = (source.file.load(names[part]) for part in (Part.A, Part.B))
            if a.ndim != 2 or b.ndim != 2 or (a.shape[0], b.shape[1]) != (ranks[path], ranks[path]):
                sizes = f"{tuple(b.shape)} and {tuple(a.shape)}"
                raise broken(f"{path} has factors of {sizes}, its config says rank {ranks[path]}")
            return LowRank(a=a, b=b, scale=alphas[path] / root)

        return load

    return Factors(source=source, base=None, format="peft", modules={path: loader(path) for path in paths})
