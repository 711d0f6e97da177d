"""What an adapter is, from its files: kind, variant, ranks, targets, size, base, invocation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.converters.keys import Part
from zoo.converters.source import Source
from zoo.errors import ZooError
from zoo.inspection.factors import Factors
from zoo.inspection.spectrum import Spectrum
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.render.text import printable
from zoo.specs.adapter_config import AdapterConfig

UNKNOWN = "unknown"
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One adapter.

    Attributes:
        name: as the layout gives it.
        kind: `aLoRA`, `LoRA`, what else the config says it is, or `UNKNOWN` of a file that was not read.
        variant: what sets it apart from a plain LoRA; empty for one.
        format: the reader's name; empty when it was not read.
        base: the base that it names; empty when it names none.
        base_read: the base that it was read against; empty for none.
        invocation_ids: what activates it.
        invocation_text: the same as text; empty when the base's tokenizer is not at hand.
        ranks: of its modules, ascending.
        alpha: `lora_alpha`; None where the format has none.
        targets: last names of the adapted modules, with how many there are of each.
        parameters: numbers in its file.
        dtypes: of its tensors, as safetensors spells them.
        size_bytes: of its file.
        notes: how it was read.
        refusal: why zoo cannot fold it; empty when it can.
    """

    name: str
    kind: str
    variant: tuple[str, ...]
    format: str
    base: str
    base_read: str
    invocation_ids: tuple[int, ...]
    invocation_text: str
    ranks: tuple[int, ...]
    alpha: float | None
    targets: Mapping[str, int]
    parameters: int
    dtypes: tuple[str, ...]
    size_bytes: int
    notes: tuple[str, ...]
    refusal: str

    def lines(self) -> list[str]:
        """The adapter for people, one fact a line; a stranger's text is made safe to show."""
        many = sum(self.targets.values())
        targets = ", ".join(f"{name} ×{count}" for name, count in self.targets.items())
        ranks = f"{self.ranks[0]}–{self.ranks[-1]}" if len(self.ranks) > 1 else "".join(map(str, self.ranks))
        alpha = "" if self.alpha is None else f", alpha {self.alpha:g}"
        lines = [
            ("adapter", self.name),
            ("kind", f"{self.kind}{': ' + ', '.join(self.variant) if self.variant else ''}"),
            ("format", self.format or "not read"),
            ("base", self.base or "(it names none)"),
            ("invocation", self._invocation()),
            ("ranks", f"{ranks}{alpha}" if ranks else UNKNOWN),
            ("targets", f"{many} modules: {targets}" if many else UNKNOWN),
            ("parameters", f"{self.parameters:,} ({', '.join(self.dtypes)}, {_size(self.size_bytes)})"),
            *(("read", note) for note in self.notes),
        ]
        if self.refusal:
            lines.append(("not folded", self.refusal))
        return [f"{key:<12}{printable(text)}" for key, text in lines]

    def to_document(self) -> dict[str, Any]:
        """The adapter as plain data."""
        return {
            "name": self.name,
            "kind": self.kind,
            "variant": list(self.variant),
            "format": self.format or None,
            "base": self.base or None,
            "base_read": self.base_read or None,
            "invocation": {"ids": list(self.invocation_ids), "text": self.invocation_text or None},
            "ranks": list(self.ranks),
            "alpha": self.alpha,
            "targets": dict(self.targets),
            "parameters": self.parameters,
            "dtypes": list(self.dtypes),
            "size_bytes": self.size_bytes,
            "notes": list(self.notes),
            "refusal": self.refusal or None,
        }

    def _invocation(self) -> str:
        if not self.invocation_ids and not self.invocation_text:
            return UNKNOWN if self.kind == UNKNOWN else "none: it acts on every token"
        ids = f"ids {list(self.invocation_ids)}" if self.invocation_ids else "as text only (alora 0.x)"
        text = repr(self.invocation_text) if self.invocation_text else "(text: with the base, --base)"
        return f"{text} → {ids}"


def describe(factors: Factors, found: Mapping[str, Spectrum]) -> Subject:
    """Gathers what the files say.

    Args:
        factors: the opened adapter.
        found: its spectra, from which ranks are known where it was read.
    """
    source, config = factors.source, factors.source.config
    shapes = source.file.shapes.values()
    paths = list(factors.modules) or _paths(source)
    ids = tuple(config.alora_invocation_tokens or factors.invocation_ids)
    revision = f" at {config.revision[:12]}" if config.revision else ""
    return Subject(
        name=source.name,
        kind="aLoRA" if ids or config.invocation_string else _kind(factors),
        variant=tuple(_variant(config)),
        format=factors.format,
        base=f"{config.base_model_name_or_path}{revision}" if config.base_model_name_or_path else "",
        base_read=factors.base.id if factors.base else "",
        invocation_ids=ids,
        invocation_text=config.invocation_string or _text(ids, factors.base),
        ranks=tuple(sorted({one.rank for one in found.values()})),
        alpha=config.lora_alpha if "lora_alpha" in config.model_fields_set else None,
        targets=_counted([path.rpartition(".")[2] for path in paths]),
        parameters=sum(shape.elements for shape in shapes),
        dtypes=tuple(sorted({shape.dtype for shape in shapes})),
        size_bytes=source.file.path.stat().st_size,
        notes=factors.notes,
        refusal=" ".join(str(factors.refusal).split()) if factors.refusal else "",
    )


def _kind(factors: Factors) -> str:
    kind = factors.source.config.peft_type
    if not kind and not factors.format:
        return UNKNOWN
    return "LoRA" if kind.upper() in ("LORA", "") else kind


def _variant(config: AdapterConfig) -> list[str]:
    init = config.init_lora_weights
    marks = {
        "rsLoRA": config.use_rslora,
        "DoRA": config.use_dora,
        "QA-LoRA": config.use_qalora,
        "BD-LoRA": bool(config.use_bdlora),
        f"init {init}": isinstance(init, str),
        "rank pattern": bool(config.rank_pattern),
        "alpha pattern": bool(config.alpha_pattern),
        "lora_bias": config.lora_bias,
        f"bias {config.bias}": config.bias != "none",
        "modules_to_save": bool(config.modules_to_save),
        "trained tokens": bool(config.trainable_token_indices),
        "expert parameters": bool(config.target_parameters),
        "repeated layers": bool(config.layer_replication),
    }
    return [name for name, there in marks.items() if there]


def _paths(source: Source) -> list[str]:
    """Module paths by name alone, for what could not be read."""
    return sorted({key.path for key in source.keys.values() if key.part is not Part.OTHER})


def _counted(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in sorted(set(names))}


def _text(ids: Sequence[int], base: BaseModel | None) -> str:
    if not ids or base is None:
        return ""
    try:
        return Prompter(base).decode(ids)
    except ZooError:
        return ""


def _size(count: int) -> str:
    return next((f"{count / unit:.1f} {name}" for unit, name in _UNITS if count >= unit), f"{count} B")
