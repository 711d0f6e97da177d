"""A release with its vectors on a tiny base, and what the replay says about it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.real_release import real_release
from tests.validators.conformance.bench import context_of
from zoo.adapter import VECTORS_NAME
from zoo.models import BaseModel, Dtype
from zoo.report import Outcome
from zoo.validators.check import Context
from zoo.validators.conformance.peft_checks import LOADS
from zoo.validators.conformance.replay_checks import REPLAY_CHECKS, SHIPPED_CHECKS
from zoo.validators.conformance.shipped import Writer
from zoo.validators.conformance.shipped_file import Shipped, dump, read
from zoo.validators.engine import run_checks


def writer(context: Context) -> Writer:
    base = context.known_base
    return Writer(
        repo=context.repo,
        base=base,
        rig=context.bases.rigs.of(base, dtype="float32", device="cpu"),
        invocation=context.invocation.ids,
        prompts=context.prompts,
    )


def shipped_release(base: BaseModel, folder: Path) -> Path:
    """A release and its vectors; the lock does not name them."""
    context = context_of(real_release(base, folder), base)
    (folder / VECTORS_NAME).write_bytes(dump(writer(context).measure()))
    return folder


def replayed(
    folder: Path, base: BaseModel, *, dtype: Dtype = "float32", asked: bool = False
) -> dict[str, Outcome]:
    """What ZP001 and the ZS checks come to."""
    context = context_of(folder, base, dtype=dtype)
    context.replay = asked
    found = {one.code: one.outcome for one in run_checks(context, (*SHIPPED_CHECKS, LOADS, *REPLAY_CHECKS))}
    context.close()
    return found


def rewritten(
    folder: Path,
    arrays: Callable[[dict[str, np.ndarray[Any, Any]]], object] = lambda _: None,
    record: Callable[[dict[str, Any]], object] = lambda _: None,
) -> None:
    """Changes the file as somebody would who knows its format."""
    from safetensors.numpy import save_file

    shipped: Shipped = read(folder / VECTORS_NAME)
    content = {name: values.copy() for name, values in shipped.arrays.items()}
    document = shipped.record.model_dump(mode="json")
    arrays(content)
    record(document)
    save_file(content, folder / VECTORS_NAME, metadata={"alora_zoo": json.dumps(document)})
