"""Reads the deprecated `alora` package's format (0.1.0 to 0.3.0): a LoRA with `invocation_string`.

Its text must become ids, and its boundary a decision, because the package has three:

- generate starts one token after the invocation's first token (peft_model_alora.py:1785);
- tokenize_alora the same (tokenize_alora.py:13); so say its docstring, its README and llama.cpp's converter;
- forward, used in training, starts at the invocation's first token (peft_model_alora.py:1589).

PEFT has one rule: from the first token of the ids it is given. `exclusive` keeps what the package computes
when it is used, by giving PEFT the ids without the first; `inclusive` keeps what it computed in training, by
giving all of them. Exclusive is the default: a conversion keeps the function that was evaluated and served.
Source: alora 0.3.0 (0.1.0 and 0.2.0 are the same), and ggml-org/llama.cpp convert_lora_to_gguf.py:429-442.
"""

from dataclasses import replace
from enum import StrEnum

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions, SourceInvocation
from zoo.converters.readers import peft
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel

NAME = "alora-0.3"
DEFAULT_RANK = 32  # alora 0.3.0, config.py; PEFT's is 8


class Boundary(StrEnum):
    """From which invocation token on the adapter acts."""

    EXCLUSIVE = "exclusive"
    INCLUSIVE = "inclusive"


def accepts(source: Source) -> bool:
    """Whether the config has the text and no ids; a config with both is PEFT's."""
    return bool(source.config.invocation_string) and not source.config.is_activated


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the folder as PEFT's LoRA, and adds the invocation text and the package's own traps.

    Raises:
        RefusedError: see `zoo.converters.readers.peft.read`.
        UsageError: see there.
    """
    if "r" not in source.config.model_fields_set:
        source = replace(source, config=source.config.model_copy(update={"r": DEFAULT_RANK}))
    checkpoint = peft.read(source, base, options)
    config = source.config
    warnings = list(checkpoint.warnings)
    if config.lora_alpha != config.r or config.alpha_pattern or config.rank_pattern:
        warnings.append(
            "alora applies no scale in batches of more than one row; the scale of its single-row path is "
            "kept, so an adapter that was trained or used in batches will act differently"
        )
    return replace(
        checkpoint,
        format=NAME,
        invocation=SourceInvocation(text=config.invocation_string or ""),
        warnings=tuple(warnings),
    )


def trigger(ids: tuple[int, ...], boundary: Boundary) -> tuple[int, ...]:
    """The ids that PEFT must look for so that it starts where `boundary` says.

    Args:
        ids: of the whole invocation string.
        boundary: the decision.

    Raises:
        RefusedError: ZV019, an exclusive boundary in an invocation of a single token.
    """
    if boundary is Boundary.INCLUSIVE:
        return ids
    if len(ids) < 2:
        raise RefusedError(
            "an invocation of one token leaves nothing to look for behind its first token",
            code="ZV019",
            hint="--legacy-boundary inclusive",
        )
    return ids[1:]


READER = Reader(name=NAME, accepts=accepts, read=read)
