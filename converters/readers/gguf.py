"""Reads an adapter in llama.cpp's format: its module names, its row order, one alpha for all.

An alpha of 0, or none, means a scale of 1 there. Invocation tokens are PEFT's ids.
Source: ggml-org/llama.cpp, src/llama-adapter.cpp (`get_scale`), convert_lora_to_gguf.py (0b03ada, 215841f).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions, SourceInvocation
from zoo.converters.exporters.architectures import architecture, heads_of, tensor_names
from zoo.converters.forms import Form
from zoo.converters.gguf_file import GgufFile
from zoo.converters.modules import broken
from zoo.converters.readers.pairs import (
    Factor,
    assemble,
    complete,
    grouped,
    no_others,
    pair,
    renamed,
    unpaired,
)
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel

NAME = "gguf"
INVOCATION_KEY = "adapter.alora.invocation_tokens"
MAX_INVOCATION = 512
_ENDINGS = {".weight.lora_a": "lora_a", ".weight.lora_b": "lora_b"}


def accepts(source: Source) -> bool:
    """Whether it is a GGUF file."""
    return isinstance(source.file, GgufFile)


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the file.

    Raises:
        RefusedError: ZV001, it is no LoRA; ZV005, an embedding; ZV015 to ZV017.
        EngineError: ZX002, the base's architecture is not known.
        MissingExtraError: the `gguf` package is not installed.
    """
    file = source.file
    if not isinstance(file, GgufFile) or (file.value("general.type"), file.value("adapter.type")) != (
        "adapter",
        "lora",
    ):
        raise RefusedError(
            f"{source.file.path.name} is a GGUF file, and no LoRA adapter",
            code="ZV001",
            hint="give an adapter that convert_lora_to_gguf.py or zoo export wrote",
        )
    found, alpha = architecture(base.config), _alpha(file)
    _same_architecture(file, found.name, base)
    modules, others = grouped(file.shapes, _ENDINGS)
    no_others(others)
    paths = _paths(base)
    loaders: dict[str, Callable[[], Form]] = {}
    shapes, places = {}, {}
    for written, parts in modules.items():
        if written == "token_embd":
            raise RefusedError(
                "token_embd is an embedding, through which the prefix passes",
                code="ZV005",
                hint="train again with linear layers only",
            )
        complete(written, parts, "lora_a", "lora_b")
        if written not in paths:
            raise RefusedError(
                f"the base model {base.id} has no module that llama.cpp calls {written[:120]!r}",
                code="ZV017",
                hint="name the base model that the adapter was trained on with --base",
            )
        path = paths[written]
        heads = heads_of(path, base.config) if found.paired else None
        order = partial(unpaired, heads=heads) if heads else None
        a = Factor(source=source, name=parts["lora_a"])
        b = Factor(source=source, name=parts["lora_b"], order=order)
        shape = base.linears.get(path) or (base.vocabulary, int(base.config["hidden_size"]))
        loaders[path] = pair(path, shape, a, b, alpha / a.shape[0] if alpha else 1.0)
        shapes[path], places[written] = shape, path
    notes = [f"alpha {alpha:g} / rank → folded into lora_B"]
    if found.paired:
        notes.append("rows of lora_B of q and k → from rotary pairs to Hugging Face's halves")
    ids = _invocation(file)
    invocation = SourceInvocation(ids=ids) if ids else None
    return assemble(
        source, NAME, loaders, shapes, notes=notes, renames=renamed(places), invocation=invocation
    )


READER = Reader(name=NAME, accepts=accepts, read=read)


def _same_architecture(file: GgufFile, name: str, base: BaseModel) -> None:
    """Two architectures can have the same names and shapes, and their rows in another order."""
    stated = file.value("general.architecture")
    if stated not in (None, name):
        raise RefusedError(
            f"{file.path.name} is for llama.cpp's {str(stated)[:40]}, and the base {base.id} is a {name}",
            code="ZV017",
            hint="name the base model that the adapter was trained on with --base",
        )


def _alpha(file: GgufFile) -> float:
    alpha = file.value("adapter.lora.alpha")
    alpha = 0.0 if alpha is None else alpha
    if not isinstance(alpha, int | float) or not abs(alpha) < 1e6:
        raise broken(f"adapter.lora.alpha is {str(alpha)[:40]!r}")
    return float(alpha)


def _invocation(file: GgufFile) -> tuple[int, ...]:
    ids: Any = file.value(INVOCATION_KEY)
    if ids is None:
        return ()
    if not isinstance(ids, list) or len(ids) > MAX_INVOCATION or not all(isinstance(i, int) for i in ids):
        raise broken(f"{INVOCATION_KEY} is no list of up to {MAX_INVOCATION} ids")
    return tuple(ids)


def _paths(base: BaseModel) -> dict[str, str]:
    """Module paths of the base by llama.cpp's names."""
    names = tensor_names(base.config)
    every = (*base.linears, *([] if "lm_head" in base.linears else ["lm_head"]))
    return {found: path for path in every if (found := names.get_name(path)) is not None}
