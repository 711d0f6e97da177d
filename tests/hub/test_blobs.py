import hashlib
from pathlib import Path
from typing import cast

import pytest

from tests.hub.blobs import BlobStore, write_atomically


def test_a_content_is_found_by_its_digest(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "blobs")
    sha256 = blobs.add(b"0123456789")
    assert sha256 == hashlib.sha256(b"0123456789").hexdigest()
    assert sha256 in blobs
    assert hashlib.sha256(b"").hexdigest() not in blobs
    assert blobs.size(sha256) == 10
    assert [blobs.read(sha256), blobs.read(sha256, 8), blobs.read(sha256, 2, 4)] == [
        b"0123456789",
        b"89",
        b"23",
    ]


def test_a_file_is_replaced_and_never_rewritten(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_atomically(target, b"old")
    with target.open("rb") as reader:
        write_atomically(target, b"new")
        assert reader.read() == b"old"
    assert target.read_bytes() == b"new"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "state.json"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, cast("bytes", "no bytes"))
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert target.read_bytes() == b"old"
