"""Pictures of a release: the numbers they carry, and when a card shows them."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.releases import COMPARISON, MEASURED, TRAINING, report_on, write_release
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.pictures import evaluation
from zoo.pictures.canvas import MARK, OWN, QUIET, numbers_of
from zoo.pictures.evaluation import EVALUATION_NAME, alternative, draw, numbers
from zoo.specs.comparison import Estimate, LengthBin
from zoo.specs.lock import BehaviourRecord, Lock
from zoo.training import plot


def bins(*scores: tuple[float, float]) -> BehaviourRecord:
    """A comparison over so many lengths of the context, with these scores of LoRA and recovered adapter."""
    made = [
        LengthBin(
            shortest=100 * number, longest=100 * number + 99, samples=40,
            scores={"lora": lora, "recovered": recovered}, agreement={},
            difference=Estimate(
                value=recovered - lora, low=recovered - lora - 0.05, high=recovered - lora + 0.05
            ),
        )
        for number, (lora, recovered) in enumerate(scores)
    ]  # fmt: skip
    return MEASURED.model_copy(update={"comparison": COMPARISON.model_copy(update={"lengths": made})})


def colours(path: Path) -> set[str]:
    with Image.open(path) as opened:
        found = opened.convert("RGB").getcolors(maxcolors=1 << 20)
    assert found is not None
    return {f"#{bytes(colour).hex()}" for _, colour in found if isinstance(colour, tuple)}


def test_the_same_numbers_give_the_same_bytes_and_others_others(tmp_path: Path) -> None:
    other = MEASURED.model_copy(update={"accuracy": MEASURED.accuracy | {"recovered": 0.5}})
    for name, behaviour in (("a", MEASURED), ("b", MEASURED), ("c", other)):
        assert draw(tmp_path / name, behaviour, name="check")
    first, same, changed = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == same != changed
    assert numbers_of(tmp_path / "a") == numbers(MEASURED) != numbers(other) == numbers_of(tmp_path / "c")
    assert b"matplotlib" not in first.lower()


def test_it_is_drawn_for_a_light_and_a_dark_page(tmp_path: Path) -> None:
    draw(tmp_path / "a", MEASURED, name="check")
    with Image.open(tmp_path / "a") as opened:
        assert opened.size[0] == 960
        corner = opened.convert("RGBA").getpixel((2, 2))
    assert corner == (255, 255, 255, 255)  # opaque: what is behind it does not matter
    assert {OWN, QUIET, MARK} <= colours(tmp_path / "a")


@pytest.mark.parametrize("colour", [OWN, QUIET, MARK])
def test_every_colour_stands_out_from_white(colour: str) -> None:
    """WCAG 2.2, 1.4.3: relative luminance, and a contrast of at least 4.5."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5


def test_lengths_of_the_context_have_a_panel_when_there_are_several(tmp_path: Path) -> None:
    for name, behaviour in (("one", bins((0.9, 0.9))), ("two", bins((0.9, 0.9), (0.8, 0.4)))):
        draw(tmp_path / name, behaviour, name="check")
    with Image.open(tmp_path / "one") as one, Image.open(tmp_path / "two") as two:
        assert two.size[1] > 1.8 * one.size[1]


def test_nothing_measured_is_nothing_drawn(tmp_path: Path) -> None:
    assert not draw(tmp_path / "a", BehaviourRecord(), name="check")
    assert not (tmp_path / "a").exists()


def test_words_say_what_the_picture_shows() -> None:
    said = alternative(MEASURED)
    assert "recovered aLoRA 0.942 [0.884, 0.971]" in said  # Wilson's, of 120
    assert "always the commonest answer 0.508" in said
    assert "120 held-out samples" in said
    assert "0.942 [0.912, 0.972]" in alternative(MEASURED.model_copy(update={"comparison": COMPARISON}))


def test_the_commonest_answer_is_no_line_beside_another_metric(tmp_path: Path) -> None:
    """It was counted as whole answers: beside a mean over fields it would stand too low."""
    fields = MEASURED.model_copy(
        update={"comparison": COMPARISON.model_copy(update={"metric": "field_match"})}
    )
    draw(tmp_path / "a", fields, name="check")
    assert MARK not in colours(tmp_path / "a")
    assert "commonest" not in alternative(fields)
    exact = fields.model_copy(update={"comparison": COMPARISON.model_copy(update={"metric": "exact_match"})})
    assert "always the commonest answer 0.508" in alternative(exact)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release with both pictures of its own numbers, as read from its lock."""
    folder = write_release(tmp_path / "release")
    lock = Lock.model_validate_json((folder / "zoo.lock.json").read_text())
    assert lock.training
    draw(folder / EVALUATION_NAME, MEASURED, name="check")
    plot.draw(
        folder / plot.PLOT_NAME, name="check", losses=[2.0, 1.0], looks=[(2, {"loss": 1.0})], best_step=2,
        training=TRAINING,
    )  # fmt: skip
    return folder


def card(folder: Path) -> str:
    return render_card(AdapterRepo.open(folder), report_on(folder))


def test_a_card_shows_the_pictures_of_its_numbers_in_words_too(release: Path) -> None:
    shown = card(release)
    assert f"![{alternative(MEASURED)}](evaluation.png)" in shown.replace("\\", "")
    assert "](training.png)" in shown
    assert shown.index("## How it was made") < shown.index("](training.png)") < shown.index("## Base model")


def test_a_picture_of_other_numbers_is_not_shown(release: Path) -> None:
    path = release / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["behaviour"]["accuracy"]["recovered"] = 0.9
    lock["training"]["steps"] += 1
    path.write_text(json.dumps(lock))
    assert ".png" not in card(release)


def test_a_strangers_picture_or_none_is_not_shown(release: Path) -> None:
    Image.new("RGB", (4, 4)).save(release / EVALUATION_NAME)
    (release / plot.PLOT_NAME).unlink()
    assert ".png" not in card(release)
    for damaged in (b"", b"\x89PNG\r\n\x1a\n\0", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt", b"GIF89a"):
        (release / EVALUATION_NAME).write_bytes(damaged)
        assert numbers_of(release / EVALUATION_NAME) == ""
    assert numbers_of(release) == ""


def test_answers_to_invented_requests_are_no_picture(release: Path) -> None:
    path = release / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["training"]["settings"]["invented"] = {"sha256": lock["behaviour"]["data_sha256"]}
    path.write_text(json.dumps(lock))
    assert evaluation.EVALUATION_NAME not in card(release)
