"""The formats that can be read, and choosing between them by content."""

from zoo.converters.checkpoint import LoraCheckpoint, ReadOptions
from zoo.converters.readers import (
    fused,
    gguf,
    kohya,
    legacy,
    megatron,
    methods,
    mlx,
    nora,
    peft,
    reslora,
    torchtune,
)
from zoo.converters.source import Source
from zoo.errors import RefusedError
from zoo.models import BaseModel

READERS = (  # in this order: the first that accepts reads it
    gguf.READER,
    torchtune.READER,
    legacy.READER,
    methods.READER,
    peft.READER,
    mlx.READER,
    kohya.READER,
    megatron.READER,
    reslora.READER,
    nora.READER,
    fused.READER,
)
WITHOUT_ALPHA = (
    torchtune.NAME,
    fused.NAME,
    fused.LITGPT,
    megatron.NAME,
    nora.NAME,
)  # formats whose weights do not say it
_PLAIN = ReadOptions()


def read_checkpoint(source: Source, base: BaseModel, options: ReadOptions = _PLAIN) -> LoraCheckpoint:
    """Reads an adapter into the neutral form.

    Args:
        source: the opened adapter.
        base: its base model, against whose modules everything is resolved.
        options: what the user says where the source does not.

    Raises:
        RefusedError: ZV…, it cannot become an aLoRA exactly, or is in no known format (ZV026).
    """
    reader = next((reader for reader in READERS if reader.accepts(source)), None)
    if reader is None:
        shown = ", ".join(repr(name[:80]) for name in sorted(source.file.shapes)[:3])
        raise RefusedError(
            f"{source.file.path.name} is in no format that zoo knows; its first tensors are {shown}",
            code="ZV026",
            hint="zoo explain ZV026 lists the formats; PEFT's is always read",
        )
    return reader.read(source, base, options)
