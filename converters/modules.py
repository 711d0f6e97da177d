"""Which module of the base model each factor belongs to."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from zoo.converters.keys import Part
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel

OUTERMOST = ("model", "transformer", "gpt_neox")  # what transformers calls the inside of language models
_FACTORS = (Part.A, Part.B, Part.LATENT, Part.DIAGONAL, Part.MAGNITUDE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleTensors:
    """The tensors of one adapted module.

    Attributes:
        path: the module's path in the loaded base model, as PEFT addresses it.
        shape: `(out_features, in_features)` of its weight.
        names: tensor name in the file by part.
    """

    path: str
    shape: tuple[int, int]
    names: Mapping[Part, str] = field(default_factory=dict)


def adapted_modules(source: Source, base: BaseModel) -> tuple[list[ModuleTensors], list[str]]:
    """Groups a source's factors by module, and finds each module in the base.

    Returns:
        The modules, sorted by path, and a line for each path that was read under another name.

    Raises:
        RefusedError: ZV016, factors that do not pair up; ZV017, a module the base does not have.
    """
    modules, renames = [], []
    for written, names in factor_names(source).items():
        path, shape = find_module(written, base)
        if path != written:
            renames.append(f"module {written} → {path}")
        modules.append(ModuleTensors(path=path, shape=shape, names=names))
    once(module.path for module in modules)
    renames.extend(_spellings(source))
    return modules, renames


def factor_names(source: Source) -> dict[str, dict[Part, str]]:
    """The names of a source's factors by module as the file spells it, sorted, and by part.

    Raises:
        RefusedError: ZV016, factors that do not pair up, or of several adapters.
    """
    grouped: dict[str, dict[Part, str]] = {}
    for name, key in source.keys.items():
        if key.part not in _FACTORS:
            continue
        names = grouped.setdefault(key.path, {})
        if key.part in names:
            raise broken(f"{key.path} has two tensors for {key.part.value}: several adapters in one file")
        names[key.part] = name
    for written, names in grouped.items():
        if Part.A not in names or Part.B not in names:
            missing = "lora_B" if Part.A in names else "lora_A"
            raise broken(f"{written} has no {missing}")
    return dict(sorted(grouped.items()))


def missing_targets(source: Source, base: BaseModel, adapted: Collection[str]) -> list[str]:
    """A line about modules that the config names and the file does not hold; PEFT leaves those as they are.

    Only where `target_modules` is a list of names and nothing else narrows it.
    """
    config = source.config
    narrowed = config.layers_to_transform is not None or config.exclude_modules or config.layers_pattern
    if not isinstance(config.target_modules, list) or narrowed:
        return []
    named = tuple(config.target_modules)
    ends = tuple(f".{name}" for name in named)
    missing = [
        path for path in base.linears if (path in named or path.endswith(ends)) and path not in adapted
    ]
    if not missing:
        return []
    return [f"the file holds nothing for {len(missing)} modules of target_modules, such as {missing[0]}"]


def broken(what: str) -> RefusedError:
    """ZV016 for factors that do not fit together."""
    return RefusedError(
        f"the weights are incomplete or contradict the config: {what}",
        code="ZV016",
        hint="save the adapter again with PEFT's save_pretrained",
    )


def once(paths: Iterable[str]) -> None:
    """Refuses two entries for one module, which a file can have under two spellings of its name.

    Raises:
        RefusedError: ZV016.
    """
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise broken(f"two entries of the file are {path}")
        seen.add(path)


def find_module(written: str, base: BaseModel) -> tuple[str, tuple[int, int]]:
    """A module's path in the loaded model, and its shape.

    A checkpoint may leave out the outermost name (GPT-2's has `h.0`, its model `transformer.h.0`), and an
    adapter may too: the longer spelling is the loaded model's.

    Raises:
        RefusedError: ZV017, the base has no such module, or several.
    """
    if written in base.linears:
        return written, base.linears[written]
    if written == "lm_head" and (hidden := base.config.get("hidden_size")):
        return written, (base.vocabulary, hidden)  # tied to the embedding: no tensor of its own on disk
    longer = [path for path in base.linears if path.endswith(f".{written}")]
    shorter = [path for path in base.linears if _adds_outermost(written, path)]
    match longer, shorter:
        case [path], []:
            return path, base.linears[path]
        case [], [path]:
            return written, base.linears[path]
        case _:
            raise RefusedError(
                f"the base model {base.id} has no linear module {written[:200]!r}",
                code="ZV017",
                hint="name the base model that the adapter was trained on with --base",
            )


def _adds_outermost(written: str, path: str) -> bool:
    """Whether a name is the checkpoint's with the loaded model's outermost name before it, and nothing else.

    More before it, or one more where there is one already, is a module of another, larger model.
    """
    added = written.removesuffix(f".{path}")
    return added in OUTERMOST and added != written and path.partition(".")[0] not in OUTERMOST


def _spellings(source: Source) -> list[str]:
    lines = []
    factors = [(name, key) for name, key in source.keys.items() if key.part in _FACTORS]
    if count := sum(not name.startswith("base_model.model.") for name, _ in factors):
        lines.append(f"{count} tensor names without the prefix base_model.model. get it")
    adapters = sorted({key.adapter for _, key in factors if key.adapter})
    if adapters:
        lines.append(f"the adapter name {', '.join(adapters)} is taken out of the tensor names")
    return lines
