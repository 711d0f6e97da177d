"""An adapter folder to be converted: its config, the meaning of its tensor names, its digests."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from zoo.converters.keys import Key, parse_key
from zoo.converters.tensors import TensorFile, open_tensors
from zoo.layouts import CONFIG_NAME, find_adapter
from zoo.provenance import sha256_file
from zoo.specs.adapter_config import AdapterConfig
from zoo.specs.document import read_json


@dataclass(frozen=True, kw_only=True)
class Source:
    """One adapter folder, opened for reading.

    Attributes:
        folder: holds `adapter_config.json`.
        name: the intrinsic's name as the layout gives it.
        config: the folder's config.
        file: its weights.
    """

    folder: Path
    name: str
    config: AdapterConfig
    file: TensorFile

    @classmethod
    def open(cls, path: Path) -> "Source":
        """Opens an adapter folder, or the only adapter in a library folder.

        Raises:
            NotFoundError: no such path, no adapter there, or no weights in it.
            UsageError: several adapters there.
            SpecError: ZC001, the config is unreadable or out of bounds.
        """
        place = find_adapter(path)
        config = read_json(place.folder / CONFIG_NAME, AdapterConfig, code="ZC001")
        name = place.intrinsic
        return cls(folder=place.folder, name=name, config=config, file=open_tensors(place.folder))

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """What each tensor's name means, by name."""
        return {name: parse_key(name) for name in self.file.shapes}

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The sha256 of the files that are read, by name."""
        return {path.name: sha256_file(path) for path in (self.folder / CONFIG_NAME, self.file.path)}
