"""An adapter to be converted: its config where it has one, the meaning of its tensor names, its digests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.adapter import WEIGHTS_NAME
from zoo.converters.digests import Digests
from zoo.converters.keys import Key, parse_key
from zoo.converters.sharded import refuse_distributed
from zoo.converters.tensors import TensorFile, candidates, open_file, open_tensors
from zoo.errors import NotFoundError
from zoo.layouts import CONFIG_NAME, find_adapter
from zoo.specs.adapter_config import AdapterConfig
from zoo.specs.document import read_json

MAX_DOCUMENT_BYTES = 1_000_000
NO_CONFIG = AdapterConfig(peft_type="")  # of formats that PEFT did not write
MLX_KEYS = ("lora_parameters", "fine_tune_type", "lora_layers")  # `adapter_config.json` of MLX-LM
# where litgpt, NeMo and ResLoRA keep alpha
SIDE_FILES = ("hyperparameters.yaml", "model_config.yaml", "reslora_config.json")
FILE_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".lora", ".gguf", ".nemo")
NAMED_SUFFIXES = (".gguf", ".nemo")  # of files that have a name of their own


@dataclass(frozen=True, kw_only=True)
class Source:
    """One adapter, opened for reading.

    Attributes:
        folder: holds its files.
        name: the intrinsic's name as the layout gives it.
        config: PEFT's config; `peft_type` is empty where there is none.
        file: its weights.
        document: another trainer's `adapter_config.json` as plain data; empty where there is none.
        inputs: the files that are read.
    """

    folder: Path
    name: str
    config: AdapterConfig
    file: TensorFile
    document: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Path, ...] = ()

    @classmethod
    def open(cls, path: Path) -> "Source":
        """Opens an adapter folder, the only adapter in a library folder, or a file of weights.

        Raises:
            NotFoundError: no such path, no adapter there, or no weights in it.
            UsageError: several adapters there.
            SpecError: ZC001, the config is unreadable or out of bounds.
            RefusedError: ZV026, a distributed checkpoint of Megatron.
        """
        if path.exists():  # `.` and `..` have no name
            path = path.resolve() if path.name == ".." else path.absolute()
        if path.is_file():
            return _without_config(path)
        refuse_distributed(path)
        if path.is_dir() and not (path / CONFIG_NAME).is_file() and len(candidates(path)) == 1:
            return _without_config(candidates(path)[0])
        place = find_adapter(path)
        config_path = place.folder / CONFIG_NAME
        document = _mlx_document(config_path)
        config = NO_CONFIG if document else read_json(config_path, AdapterConfig, code="ZC001")
        file = open_tensors(place.folder)
        return cls(
            folder=place.folder,
            name=place.intrinsic,
            config=config,
            file=file,
            document=document,
            inputs=(config_path, file.path),
        )

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """What each tensor's name means, by name."""
        return {name: parse_key(name) for name in self.file.shapes}

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The sha256 of the files that are read, by name; taken beside what else is done."""
        return Digests(self.inputs)


def _without_config(path: Path) -> Source:
    if path.suffix not in FILE_SUFFIXES:
        raise NotFoundError(
            f"{path.name} is no file of weights that zoo reads ({', '.join(FILE_SUFFIXES)})",
            hint="give an adapter folder, or a file of weights",
        )
    if (path.parent / CONFIG_NAME).is_file() and _beside(path) == path:
        return Source.open(path.parent)
    inputs = (path, *(extra for name in SIDE_FILES if (extra := path.parent / name).is_file()))
    # some trainers call every adapter's file alike: the folder has the name then
    named = path if path.suffix in NAMED_SUFFIXES or path not in candidates(path.parent) else path.parent
    return Source(
        folder=path.parent,
        name=named.name.partition(".")[0],
        config=NO_CONFIG,
        file=open_file(path),
        inputs=inputs,
    )


def _beside(path: Path) -> Path:
    """The weights whose config lies beside a file."""
    try:
        return open_tensors(path.parent).path
    except NotFoundError:
        raise NotFoundError(
            f"{path.name} lies beside {CONFIG_NAME}, under a name that no trainer gives adapter weights",
            hint=f"call it {WEIGHTS_NAME} and give the folder, or move it away if the config is not its own",
        ) from None


def _mlx_document(path: Path) -> Mapping[str, Any]:
    """MLX-LM's config, which has PEFT's file name and none of its keys; empty for any other file."""
    import json

    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    if not isinstance(document, dict) or "peft_type" in document:
        return {}
    return document if any(key in document for key in MLX_KEYS) else {}
