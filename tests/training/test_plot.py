from pathlib import Path

import pytest
from PIL import Image

from tests.releases import TRAINING
from zoo.training.plot import can_draw, draw

LOSSES = [3.0, 1.0, 0.5, 0.4]
LOOKS = [(0, {"balanced_accuracy": 0.5, "loss": 3.1}), (4, {"balanced_accuracy": 1.0, "loss": 0.4})]


def picture(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("L")


def test_the_same_course_gives_the_same_picture_and_another_another(tmp_path: Path) -> None:
    for name, losses in (("a", LOSSES), ("b", LOSSES), ("c", LOSSES[::-1])):
        draw(tmp_path / name, name="check", training=TRAINING, losses=losses, looks=LOOKS, best_step=4)
    first, same, other = (picture(tmp_path / name) for name in "abc")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert first.size == same.size == (960, 896)
    assert first.tobytes() != other.tobytes()
    assert first.getextrema() != (255, 255)


def test_a_plain_score_has_one_panel(tmp_path: Path) -> None:
    draw(tmp_path / "a", name="t", training=TRAINING, losses=LOSSES, looks=[(0, {"loss": 2.0})], best_step=0)
    assert picture(tmp_path / "a").size == (960, 512)


def test_without_matplotlib_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_draw()
    monkeypatch.setattr("zoo.pictures.canvas.find_spec", lambda name: None)
    assert not can_draw()
