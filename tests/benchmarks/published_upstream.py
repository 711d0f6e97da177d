"""Fetches published adapters by granite-common's and mellea's own loaders; needs no zoo.

Started by published_loaders.py with the Python of an environment that has both packages and huggingface_hub.
Each line in is a place; each line out says, by loader, which files it found and what its contract made of a
request, or the error's class.
"""

import importlib
import json
import logging
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

PACKAGES = {"granite-common": "granite_common", "mellea": "mellea.formatters.granite"}


def by_package(root: str, where: dict[str, Any]) -> dict[str, Any]:
    """A package's functions for a library: the adapter's folder, its contract, a request through that."""
    halves = importlib.import_module(f"{root}.intrinsics")
    place = (where["intrinsic"], where["base"], where["repo"])
    folder = halves.obtain_lora(*place, revision=where["revision"], alora=True)
    contract = halves.obtain_io_yaml(*place, revision=where["revision"], alora=True)
    types = importlib.import_module(f"{root}.base.types")
    request = types.ChatCompletion.model_validate(where["request"])
    rewritten = halves.IntrinsicsRewriter(config_file=contract).transform(request)
    return {**found(folder), "rewritten": rewritten.model_dump()}


def by_binding(where: dict[str, Any]) -> dict[str, Any]:
    """mellea's binding of weights to a backend, as far as it goes without one: to the folder."""
    core = importlib.import_module("mellea.backends.adapters._core")
    types = importlib.import_module("mellea.backends.adapters.catalog")
    binding = core.LocalFileBinding(
        where["intrinsic"], types.AdapterType.ALORA, where["repo"], where["revision"]
    )
    return found(binding.get_local_hf_path(where["base"]))


def found(folder: str | Path) -> dict[str, Any]:
    return {"folder": str(folder), "files": sorted(path.name for path in Path(folder).iterdir())}


def attempt(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return call()
    except Exception as error:  # every class of it is an answer here
        return {"error": type(error).__name__, "said": str(error)[:300]}


def answers(where: dict[str, Any]) -> dict[str, Any]:
    said = {name: attempt(partial(by_package, root, where)) for name, root in PACKAGES.items()}
    return {**said, "mellea LocalFileBinding": attempt(partial(by_binding, where))}


def main() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        print(json.dumps(answers(json.loads(line))))


if __name__ == "__main__":
    main()
