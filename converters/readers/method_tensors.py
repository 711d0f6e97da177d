"""Which tensor of a PEFT method's file belongs to which module, and in which order the modules count."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zoo.converters.keys import PREFIX
from zoo.converters.model_order import model_order
from zoo.converters.modules import broken
from zoo.converters.source import Source
from zoo.converters.variants.method import Method
from zoo.errors import RefusedError
from zoo.models import BaseModel
from zoo.specs.adapter_config import AdapterConfig

_SHARED_PREFIX = "base_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """Tensor names of a file by what they are.

    Attributes:
        modules: by module as the file spells it, and part.
        shared: of all modules, by part.
        keyed: of some modules, by key and part.
        others: the rest.
    """

    modules: Mapping[str, Mapping[str, str]]
    shared: Mapping[str, str]
    keyed: Mapping[str, Mapping[str, str]]
    others: tuple[str, ...]

    def keys_agree(self, wanted: Iterable[str]) -> None:
        """Refuses a file whose keyed tensors are not those of its modules.

        Args:
            wanted: the modules' keys; empty ones are no keys.

        Raises:
            RefusedError: ZV016.
        """
        if self.keyed and set(self.keyed) != (needed := {key for key in wanted if key}):
            odd = sorted(needed ^ set(self.keyed))[0]
            raise broken(f"the tensors that modules share are not those of its modules ({odd[:100]})")


def group(source: Source, method: Method) -> TensorNames:
    """Sorts the tensor names of a file.

    Raises:
        RefusedError: ZV016, two tensors for one part, or none of the method.
    """
    modules: dict[str, dict[str, str]] = {}
    shared: dict[str, str] = {}
    keyed: dict[str, dict[str, str]] = {}
    others: list[str] = []
    for name in source.file.shapes:
        bare = name.removeprefix(PREFIX).removeprefix(_SHARED_PREFIX).removesuffix(".weight")
        part, _, key = bare.partition(".")
        if part in method.keyed and key and "." not in key:
            place = keyed.setdefault(key, {})
        else:
            path, part = _split(bare, (*method.parts, *method.shared))
            if not part:
                others.append(name)
                continue
            # RandLoRA repeats shared ones in each module
            place = modules.setdefault(path, {}) if path else shared
        if part in place:
            raise broken(f"{bare[:200]}: two tensors for {part}, several adapters in one file")
        place[part] = name
    if not modules and not (method.unlisted and shared):
        raise broken(f"there is no tensor of {method.name}")
    return TensorNames(modules=modules, shared=shared, keyed=keyed, others=tuple(others))


def _split(bare: str, parts: tuple[str, ...]) -> tuple[str, str]:
    """Module path and part of a tensor name; both empty when it is of no part.

    Behind a part there may be an item's number, which belongs to it, or an adapter's name, which does not.
    """
    before, _, last = bare.rpartition(".")
    lists = [part.removesuffix(".#") for part in parts if part.endswith(".#")] if last.isdigit() else []
    candidates = [
        *((bare, part, part) for part in parts),
        *((before, stem, f"{stem}.{last}") for stem in lists),
        *((before, part, part) for part in parts),
    ]
    for whole, stem, part in candidates:
        if whole == stem or whole.endswith(f".{stem}"):
            return whole.removesuffix(stem).removesuffix("."), part
    return "", ""


def targeted(config: AdapterConfig, base: BaseModel) -> list[str]:
    """The modules that a list of `target_modules` names, of a file that holds nothing for a module.

    Raises:
        RefusedError: ZV025, anything else decides which modules are adapted.
    """
    narrowed = config.layers_to_transform is not None or config.exclude_modules or config.layers_pattern
    if not isinstance(config.target_modules, list) or narrowed:
        raise RefusedError(
            "the file holds nothing for single modules, and its config names them by a pattern",
            code="ZV025",
            hint="save it where it was trained with save_indices, or with a list of target_modules",
        )
    ends = tuple(f".{name}" for name in config.target_modules)
    found = [path for path in base.linears if path in config.target_modules or path.endswith(ends)]
    if not found:
        raise broken("no module of the base is among its target_modules")
    return found


def in_model_order(places: Mapping[str, tuple[str, tuple[int, int]]], base: BaseModel) -> list[str]:
    """The names of modules in a file, in the order in which the model holds the modules.

    Args:
        places: path and shape in the base by the name in the file.
        base: the base model.

    Raises:
        RefusedError: ZV017, the model has no such module.
    """
    numbers = {path: number for number, path in enumerate(model_order(base))}
    for path, _ in places.values():
        if path not in numbers:
            raise RefusedError(
                f"the base model {base.id} has no module {path[:200]!r}",
                code="ZV017",
                hint="name the base model that the adapter was trained on with --base",
            )
    return sorted(places, key=lambda written: numbers[places[written][0]])
