"""Checkpoints that only the program that wrote them can put together."""

from pathlib import Path

from zoo.errors import RefusedError
from zoo.layouts import CONFIG_NAME

_SHARDS = "*.distcp"
_INSIDE = ("", "weights", "iter_*", "*/weights")  # Megatron-Core, NeMo 2, Megatron-Bridge, a NeMo 2 run


def refuse_distributed(folder: Path) -> None:
    """Refuses a distributed checkpoint of Megatron by name: its pieces say nothing without the running model.

    Raises:
        RefusedError: ZV026.
    """
    if not folder.is_dir() or (folder / CONFIG_NAME).is_file():
        return
    for inside in _INSIDE:
        if any(folder.glob(f"{inside}/{_SHARDS}" if inside else _SHARDS)):
            raise RefusedError(
                f"{folder.name} is a distributed checkpoint of Megatron, in the pieces of its processes",
                code="ZV026",
                hint="export the adapter to PEFT's format with NeMo or with Megatron-Bridge "
                "(AutoBridge.export_adapter_ckpt), and convert that",
            )
