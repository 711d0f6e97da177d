import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "careful"
Edit = Callable[..., Path]


@pytest.fixture
def careful(tmp_path: Path) -> Path:
    """The worked example, to be changed."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "careful"))


@pytest.fixture
def edited(careful: Path) -> Edit:
    """Replaces a piece of a file of the example, once, and gives the flow's folder."""

    def edit(old: str, new: str, *, file: str = "flow.yaml") -> Path:
        path = careful / file
        content = path.read_text(encoding="utf-8")
        assert content.count(old) >= 1, f"{old!r} is not in {file}"
        path.write_text(content.replace(old, new, 1), encoding="utf-8")
        return careful

    return edit
