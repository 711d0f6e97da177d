"""Activated LoRA (aLoRA) adapters: convert, train, validate, publish.

The functions below are the library's front door and what the `zoo` commands call. They are loaded on
first use, because `import zoo` must not import torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from zoo.conversion import convert
    from zoo.intrinsic import Intrinsic
    from zoo.release import publish
    from zoo.training.train import train
    from zoo.validators.validate import validate

__all__ = ["Intrinsic", "__version__", "convert", "publish", "train", "validate"]

_HOMES = {
    "Intrinsic": "zoo.intrinsic",
    "convert": "zoo.conversion",
    "publish": "zoo.release",
    "train": "zoo.training.train",
    "validate": "zoo.validators.validate",
}


def __getattr__(name: str) -> Any:
    """Imports a front-door function's module when the function is first asked for."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
