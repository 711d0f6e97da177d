"""A `.nemo` file: a tar with the settings of a model, and its weights in as many parts as it ran in.

The two members that are needed are copied out, never the whole archive, and the weights go through the same
limited process as any pickle. A model that ran in several parts is refused.
Source: NVIDIA/NeMo v2.0, scripts/checkpoint_converters/lora_converters/convert_nemo_to_canonical.py.
"""

import shutil
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zoo.converters.tensors import COMPRESSION, MAX_PICKLE_BYTES, Shape, UnpackedFile
from zoo.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS, SETTINGS = "model_weights.ckpt", "model_config.yaml"
MAX_MEMBERS = 1000
MAX_SETTINGS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class NemoFile:
    """One `.nemo` file.

    Attributes:
        path: where it is.
    """

    path: Path

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Every tensor's dtype and shape by name.

        Raises:
            RefusedError: ZV014, it holds anything but tensors, or is damaged; ZV026, it is in several parts.
        """
        return self._content[0].shapes

    @property
    def settings(self) -> Mapping[str, Any]:
        """`model_config.yaml`; empty where there is none that can be read."""
        return self._content[1]

    def load(self, name: str) -> "Tensor":
        """One tensor, on the CPU, in the file's dtype."""
        return self._content[0].load(name)

    @cached_property
    def _content(self) -> tuple[UnpackedFile, Mapping[str, Any]]:
        with TemporaryDirectory(prefix="zoo-nemo-") as folder:
            try:
                settings = self._copied(Path(folder) / self.path.name)
            except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError):
                raise self._damaged("is no archive that NeMo wrote, or is damaged") from None
            weights = UnpackedFile(path=Path(folder) / self.path.name)
            _ = weights.tensors  # while the file is there
            return weights, parse_settings(settings)

    def _copied(self, target: Path) -> bytes:
        """Copies the weights to a file, and gives the settings."""
        settings, found, total = b"", False, 0
        with tarfile.open(self.path) as archive:
            for number, member in enumerate(archive):
                total += member.size
                if number >= MAX_MEMBERS or total > min(
                    COMPRESSION * self.path.stat().st_size, MAX_PICKLE_BYTES
                ):
                    raise self._damaged("unpacks to far more than an adapter holds")
                place = PurePosixPath(member.name)
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None or place.name not in (WEIGHTS, SETTINGS):
                    continue
                if place.name == SETTINGS:
                    settings = stream.read(MAX_SETTINGS)
                elif len(place.parts) > 1 or found:
                    raise self._parts(str(place))
                else:
                    with target.open("xb") as file:
                        shutil.copyfileobj(stream, file)
                    found = True
        if not found:
            raise self._damaged(f"holds no {WEIGHTS}")
        return settings

    def _damaged(self, what: str) -> RefusedError:
        return RefusedError(f"{self.path.name} {what}", code="ZV014", hint="save it again where it was made")

    def _parts(self, place: str) -> RefusedError:
        return RefusedError(
            f"{self.path.name} holds the weights of several parallel parts ({place[:100]})",
            code="ZV026",
            hint="export it to PEFT's format with NeMo or Megatron-Bridge (AutoBridge.export_adapter_ckpt)",
        )


def parse_settings(content: bytes) -> Mapping[str, Any]:
    """A YAML document that is a map; empty for anything else."""
    import yaml

    try:
        found: Any = yaml.safe_load(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}
