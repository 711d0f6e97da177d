"""An adapter's low-rank factors: through zoo's readers where its base is at hand, else if they are plain."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import embedded
from zoo.converters.base_weights import streamed
from zoo.converters.forms import LowRank
from zoo.converters.keys import Part
from zoo.converters.modules import broken, factor_names
from zoo.converters.patterns import resolve_patterns
from zoo.converters.readers import peft, read_checkpoint
from zoo.converters.readers.pairs import Factor, pair
from zoo.converters.refusal import refusal
from zoo.converters.source import Source
from zoo.errors import BaseMissingError, RefusedError, UndecidedError, ZooError
from zoo.models import BaseModel, resolve, resolve_named

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
        notes: how they were read, and what to look at.
        invocation_ids: what activates it, where a reader found that; PEFT's config says it too.
    """

    source: Source
    base: BaseModel | None
    format: str
    modules: Mapping[str, Load]
    refusal: ZooError | None = None
    notes: tuple[str, ...] = ()
    invocation_ids: tuple[int, ...] = ()


def read_factors(path: Path, *, base: str = "") -> Factors:
    """Opens an adapter; what cannot be folded exactly is no failure here, but a finding.

    Args:
        path: an adapter folder, a library with one, or a file of weights.
        base: see `zoo.models.resolve`; when empty, the one that the adapter names, if that needs no network.

    Raises:
        NotFoundError: no such path, no adapter there, or no such base.
        SpecError: its config is unreadable.
        RefusedError: ZV016, factors of a plain LoRA that contradict each other or its config.
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
        notes=(*checkpoint.notes, *(f"warning: {line}" for line in checkpoint.warnings)),
        invocation_ids=checkpoint.invocation.ids if checkpoint.invocation else (),
    )


def _near(source: Source) -> BaseModel | None:
    """The base that the adapter names, where it is a folder of this machine or the embedded one.

    A folder only by its whole path, as for every command: see `resolve_named`.
    """
    named = source.config.base_model_name_or_path or ""
    if named in (embedded.HUB_ID, embedded.NAME):
        try:
            return resolve(embedded.NAME)
        except UndecidedError:
            return None
    here = Path(named).is_absolute() and (Path(named) / "config.json").is_file()
    return resolve_named(named) if here else None


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
    config = source.config
    parts = {key.part for key in source.keys.values()}
    if config.peft_type.upper() != "LORA" or parts != PLAIN or config.use_qalora or config.use_bdlora:
        missing = BaseMissingError(
            f"{source.folder.name} is no plain LoRA: its update cannot be read without its base",
            hint="name it with --base",
        )
        return Factors(source=source, base=None, format="", modules={}, refusal=missing)
    names = factor_names(source)
    ranks = resolve_patterns(config.rank_pattern, list(names), config.r)
    alphas = resolve_patterns(config.alpha_pattern, list(names), config.lora_alpha)
    modules = {path: _pair(source, path, names[path], ranks[path], alphas[path]) for path in names}
    return Factors(source=source, base=None, format=peft.NAME, modules=modules)


def _pair(source: Source, path: str, names: Mapping[Part, str], rank: int, alpha: float) -> Load:
    """What loads a module's factors, which are checked by shape now.

    Raises:
        RefusedError: ZV016, they have another rank than the config says.
    """
    a, b = (Factor(source=source, name=names[part]) for part in (Part.A, Part.B))
    if (a.shape[0], b.shape[1]) != (rank, rank):
        raise broken(f"{path} has factors of {b.shape} and {a.shape}, its config says rank {rank}")
    return pair(path, (b.shape[0], a.shape[1]), a, b, peft.scale_of(alpha, rank, source.config))
