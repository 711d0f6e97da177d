"""The order in which a model holds its modules, for methods that count them."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from zoo.errors import BaseMissingError
from zoo.models import BaseModel


def model_order(base: BaseModel) -> tuple[str, ...]:
    """Paths of all modules as `named_modules` gives them, from the configuration alone: no weight is read.

    Raises:
        BaseMissingError: transformers does not know the architecture.
    """
    return _order(base.folder)


@lru_cache(maxsize=4)
def _order(folder: Path) -> tuple[str, ...]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            untyped: Any = AutoModelForCausalLM
            model = untyped.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BaseMissingError(
            f"the order of modules counts, and transformers cannot build {folder.name}: {reason}",
            hint="name the base model with --base",
        ) from error
    return tuple(name for name, _ in model.named_modules() if name)
