"""The Xet content store: where `hf_xet` puts the chunks of large files, and how the Hub finds out what came.

Real clients talk to a content server over HTTP. `hf_xet` also accepts an address of the form `local://FOLDER`
(its own tests use it) and then keeps chunks ("xorbs"), listings ("shards") and an index in that folder by
itself. So a Hub on the same machine needs no content server. It hands out such addresses, and answers one
question: which Xet hash has the content with this sha256? The commit names only the sha256, a later download
needs the Xet hash. Shards know both.

The index is locked by the process that has it open, for longer than the upload takes. Therefore nobody shares
a folder: each write token names an empty one, each read token one that holds exactly the contents of its
revision, and the Hub itself reads from a copy.

`local://` is not documented for users and may change with hf_xet; the tests keep an upload by plain LFS
beside this.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

_TRANSFER = Path(__file__).with_name("xet_transfer.py")
_RECORD = 48
_HASH = 32
_HAS_VERIFICATION = 1 << 31
_HAS_METADATA = 1 << 30
_END = b"\xff" * _HASH


class XetStore:
    """Folders that `hf_xet` writes to and reads from."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made if it is not there."""
        self._uploads = folder.resolve() / "uploads"
        self._downloads = folder.resolve() / "downloads"
        self._home = folder.resolve() / "home"
        for place in (self._uploads, self._downloads, self._home):
            place.mkdir(parents=True, exist_ok=True)
        self._found: dict[str, tuple[str, Path]] = {}
        self._seen: set[Path] = set()
        self._served: dict[frozenset[str], Path] = {}

    def upload_address(self) -> str:
        """Return the address of an empty folder, for one client to upload to."""
        return f"local://{tempfile.mkdtemp(dir=self._uploads)}"

    def download_address(self, contents: Mapping[str, Path]) -> str:
        """Return the address of a folder for one client to download from.

        Args:
            contents: Xet hash of each content that it must hold, and a file with the content.

        Raises:
            RuntimeError: hf_xet names one of the contents otherwise than the client that uploaded it did.
        """
        wanted = frozenset(contents)
        if wanted not in self._served:
            template = Path(tempfile.mkdtemp(dir=self._downloads))
            named = self._transfer("put", template, *map(str, contents.values())).split()
            if frozenset(named) != wanted:
                raise RuntimeError(f"hf_xet names the contents {named}, not {sorted(wanted)}")
            self._served[wanted] = template
        folder = Path(tempfile.mkdtemp(dir=self._downloads))
        shutil.copytree(self._served[wanted], folder, dirs_exist_ok=True)
        return f"local://{folder}"

    def hash_of(self, sha256: str) -> str | None:
        """Return the Xet hash of an uploaded content, or None if it did not come by Xet."""
        if sha256 not in self._found:
            for shard in set(self._uploads.glob("*/xet/xorbs/shards/*.mdb")) - self._seen:
                self._seen.add(shard)
                for content, xet_hash in shard_contents(shard.read_bytes()):
                    self._found[content] = xet_hash, shard.parents[3]
        return self._found[sha256][0] if sha256 in self._found else None

    def read(self, sha256: str, size: int) -> bytes:
        """Put an uploaded content of `size` bytes, of which `hash_of` is known, together from its chunks."""
        xet_hash, upload = self._found[sha256]
        with tempfile.TemporaryDirectory(dir=self._downloads) as name:
            copy, target = Path(name, "copy"), Path(name, "content")
            shutil.copytree(upload, copy)
            self._transfer("get", copy, xet_hash, str(size), str(target))
            return target.read_bytes()

    def _transfer(self, verb: str, folder: Path, *arguments: str) -> str:
        """Run hf_xet in a process of its own: when that has ended, the folder is locked by nobody."""
        command = [sys.executable, str(_TRANSFER), verb, f"local://{folder}", *arguments]
        environment = os.environ | {"HF_HOME": str(self._home), "HF_XET_CACHE": str(self._home / "xet")}
        return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def shard_contents(shard: bytes) -> Iterator[tuple[str, str]]:
    """Yield (sha256, Xet hash), 64 hex digits each, of every file that a shard lists.

    Layout, in records of 48 bytes, little-endian: one header to skip; then for each file one record (32 bytes
    Xet hash, 4 bytes flags, 4 bytes number of segments), its segments, as many verification records if flag
    bit 31 is set, and, if flag bit 30 is set, one record that begins with the sha256. A hash of 32 bytes 0xff
    ends the list.
    Source: xet-core, shard format; checked against hf-xet 1.8.0.
    """
    position = _RECORD
    while position + _RECORD <= len(shard) and shard[position : position + _HASH] != _END:
        xet_hash = shard[position : position + _HASH]
        flags = int.from_bytes(shard[position + 32 : position + 36], "little")
        segments = int.from_bytes(shard[position + 36 : position + 40], "little")
        position += _RECORD * (1 + segments * (2 if flags & _HAS_VERIFICATION else 1))
        if flags & _HAS_METADATA:
            yield _printed(shard[position : position + _HASH]), _printed(xet_hash)
            position += _RECORD


def _printed(raw: bytes) -> str:
    """Print a hash as Xet does: four 64-bit words, each with its bytes reversed."""
    return b"".join(raw[start : start + 8][::-1] for start in range(0, _HASH, 8)).hex()
