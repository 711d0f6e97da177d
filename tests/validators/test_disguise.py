"""Archives and pickles are told by their bytes; numbers and texts are not taken for them."""

import os
import random
import zipfile
from pathlib import Path

import pytest

from tests.security.corpus.pickles import TEXTUAL, png, torch_zip
from zoo.validators.disguise import beginning, is_archive, is_pickle


@pytest.mark.parametrize("before", [b"", b"# Notes\n", png(), os.urandom(200_000)])
@pytest.mark.parametrize("behind", [b"", b"\0" * 40])
def test_an_archive_is_found_from_its_end(before: bytes, behind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(before + torch_zip() + behind)
    assert is_archive(path)
    assert zipfile.is_zipfile(path)  # what torch.load would open


def test_bytes_that_only_hold_the_four_letters_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a"
    noise = random.Random(0)
    for _ in range(50):
        path.write_bytes(noise.randbytes(3000) + b"PK\x05\x06" + noise.randbytes(40))
        assert not is_archive(path)
    path.write_bytes(b"")
    assert not is_archive(path)


def test_a_pickle_in_letters_is_told_from_words() -> None:
    assert is_pickle(TEXTUAL)
    assert is_pickle(b"(ios\nsystem\n.")
    for text in (b"", b".", b"cats\nand\ndogs\n", b"import os\nos.system\n", b"# Notes\n\nI like it.\n"):
        assert not is_pickle(text)


def test_first_bytes_say_what_a_file_is() -> None:
    assert "pickle" in beginning(b"\x80\x04")
    assert "GGUF" in beginning(b"GGUF\3")
    assert beginning(b"{}") == ""
