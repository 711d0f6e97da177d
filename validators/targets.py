"""Which modules of the base model a config targets, and with what rank, as PEFT decides it.

Source: peft 0.21.2, tuners/tuners_utils.py, `check_target_module_exists`. Regular expressions are left out:
check ZC008 refuses them before anything here runs.
"""

import re
from collections.abc import Sequence

from zoo.models import BaseModel
from zoo.specs.adapter_config import AdapterConfig

ALL_LINEAR = "all-linear"


def names_module(names: Sequence[str], path: str) -> bool:
    """Whether a list of module names means this module: its whole path, or the end of it."""
    return path in names or any(path.endswith(f".{name}") for name in names)


def targets(config: AdapterConfig, path: str) -> bool:
    """Whether the config adapts the module at `path`.

    Args:
        config: with `target_modules` as a list, or the word `all-linear`.
        path: a module path without PEFT's prefix.
    """
    excluded = config.exclude_modules
    if isinstance(excluded, list) and names_module(excluded, path):
        return False
    if isinstance(config.target_modules, str):
        return config.target_modules == ALL_LINEAR and path.rpartition(".")[2] != "lm_head"
    wanted = config.target_modules or []
    if path in wanted:
        return True
    return names_module(wanted, path) and _in_wanted_layer(config, path)


def targeted_modules(config: AdapterConfig, base: BaseModel) -> list[str]:
    """Every module of the base that the config adapts, sorted."""
    return sorted(path for path in base.linears if targets(config, path))


def shape_in(base: BaseModel, path: str) -> tuple[int, int] | None:
    """`(out_features, in_features)` of a module in the base, or None when it has no such module.

    A checkpoint may leave out the outermost name (GPT-2's has `h.0`, the loaded model `transformer.h.0`).
    """
    if path in base.linears:
        return base.linears[path]
    if path == "lm_head" and isinstance(hidden := base.config.get("hidden_size"), int):
        return base.vocabulary, hidden  # tied to the embedding: no tensor of its own on disk
    found = [name for name in base.linears if path.endswith(f".{name}") or name.endswith(f".{path}")]
    return base.linears[found[0]] if len(found) == 1 else None


def _in_wanted_layer(config: AdapterConfig, path: str) -> bool:
    wanted = config.layers_to_transform
    if wanted is None or wanted == []:
        return True
    patterns = config.layers_pattern
    if not patterns:
        match = re.match(r".*?\.[^.]*\.(?P<index>\d+)\.", path)
    else:
        names = [patterns] if isinstance(patterns, str) else patterns
        tries = (re.match(rf"(?:^|.*?\.){name}\.(?P<index>\d+)\.", path) for name in names)
        match = next((found for found in tries if found), None)
    if match is None:
        return False
    index = int(match["index"])
    return index == wanted if isinstance(wanted, int) else index in wanted
