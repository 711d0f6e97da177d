"""What one of PEFT's methods stores for a module, and what makes a form of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.converters.forms import Form
from zoo.converters.variants.approximation import Dense
from zoo.converters.variants.stored import Stored

Settings = Mapping[str, Any]
Dimensions = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a module is, and what the file holds for it.

    Attributes:
        shape: `(out_features, in_features)` of its weight.
        parts: dimensions of its tensors by part name.
    """

    shape: tuple[int, int]
    parts: Mapping[str, Dimensions]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One PEFT method.

    Attributes:
        name: as its paper spells it.
        parts: last names of the tensors of a module; `x.#` stands for `x.0`, `x.1` and so on.
        build: makes an exact form, else None.
        dense: makes a form of full rank, else None.
        full: of a method with both, whether the config and these modules have full rank.
        shared: last names of tensors that all modules share.
        keyed: names of tensors that some modules share, each followed by a key.
        key: a module's key, by its path, its number and the number of modules.
        ordered: whether the module's number counts: its place among the adapted ones in the model.
        unlisted: whether the file may hold nothing for a module; `target_modules` says which are adapted.
        alpha: the config key of its alpha, empty where it has none.
        about: what a method of full rank does, as the end of a sentence "it …".
        without: why a config is no fixed update of linear weights, in the same form; empty where it is.
        warning: what to know of every checkpoint of the method, empty for nothing.
    """

    name: str
    parts: tuple[str, ...]
    build: Callable[[Stored], Form] | None = None
    dense: Callable[[Stored], Dense] | None = None
    full: Callable[[Settings, Sequence[Size]], bool] = lambda settings, sizes: False
    shared: tuple[str, ...] = ()
    keyed: tuple[str, ...] = ()
    key: Callable[[str, int, int, Settings], str] = lambda path, index, count, settings: ""
    ordered: bool = False
    unlisted: bool = False
    alpha: str = ""
    about: str = ""
    without: Callable[[Settings], str] = lambda settings: ""
    warning: str = ""
