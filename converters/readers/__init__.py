"""The formats that can be read, and choosing between them by content."""

from pathlib import Path

from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.readers import legacy, peft
from zoo.converters.source import Source
from zoo.models import BaseModel

READERS = (legacy.READER, peft.READER)  # in this order: the first that accepts a folder reads it


def read_checkpoint(source: Source, base: BaseModel, *, initial: Path | None = None) -> LoraCheckpoint:
    """Reads an adapter folder into the neutral form.

    Args:
        source: the opened folder.
        base: its base model, against whose modules everything is resolved.
        initial: the adapter as it was before training, for inits that change the base weights.

    Raises:
        RefusedError: ZV…, it cannot become an aLoRA exactly, or is not a LoRA.
    """
    reader = next(reader for reader in READERS if reader.accepts(source))
    return reader.read(source, base, initial)
