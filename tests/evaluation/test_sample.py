"""The frozen sample: stratified, independent of the file's order, and drawn group by group."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.cli import run as run_zoo
from zoo.errors import SpecError
from zoo.evaluation.sample import draw, strata
from zoo.provenance import sha256_file
from zoo.training.dataset import read_dataset


def line(text: str, answer: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "answer": answer, **more}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


@pytest.fixture
def lopsided(tmp_path: Path) -> Path:
    """90 yes, 10 no."""
    return write(
        tmp_path / "data.jsonl", [line(f"q {n}", "no" if n % 10 == 0 else "yes") for n in range(100)]
    )


def test_closed_answers_come_equally_often_as_far_as_there_are_so_many(lopsided: Path) -> None:
    assert draw(lopsided, samples=16).strata == {'"no"': 8, '"yes"': 8}
    assert draw(lopsided, samples=40).strata == {'"no"': 10, '"yes"': 30}
    everything = draw(lopsided, samples=10_000)
    assert everything.content == lopsided.read_bytes()


def test_the_order_of_the_file_does_not_matter_and_the_seed_does(lopsided: Path, tmp_path: Path) -> None:
    lines = lopsided.read_text().splitlines(keepends=True)
    shuffled = list(lines)
    random.Random(0).shuffle(shuffled)
    other = tmp_path / "shuffled.jsonl"
    other.write_text("".join(shuffled))
    first, again = (set(draw(path, samples=20).content.splitlines()) for path in (lopsided, other))
    assert first == again
    assert set(draw(lopsided, samples=20, seed=1).content.splitlines()) != first


def test_lines_that_come_later_push_out_no_more_than_they_must(lopsided: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.jsonl"
    longer.write_text(lopsided.read_text() + json.dumps(line("one more", "yes")) + "\n")
    before, after = (set(draw(path, samples=20).content.splitlines()) for path in (lopsided, longer))
    assert len(before - after) <= 1


def test_groups_come_once_before_any_comes_twice(tmp_path: Path) -> None:
    lines = [line(f"q {n}", "yes" if n // 5 % 2 else "no", group=f"g{n // 5}") for n in range(100)]
    path = write(tmp_path / "grouped.jsonl", lines)
    drawn = [json.loads(text)["group"] for text in draw(path, samples=20).content.splitlines()]
    assert len(set(drawn)) == len(drawn) == 20  # five lines a group, and one of each
    more = [json.loads(text)["group"] for text in draw(path, samples=30).content.splitlines()]
    assert max(more.count(name) for name in more) == 2


def test_open_answers_are_spread_over_lengths(tmp_path: Path) -> None:
    path = write(tmp_path / "open.jsonl", [line("word " * n, f"answer {n}") for n in range(1, 101)])
    assert set(strata(read_dataset(path).samples)) == {f"length quarter {n}" for n in range(1, 5)}
    assert draw(path, samples=12).strata == {f"length quarter {n}": 3 for n in range(1, 5)}


def test_the_command_writes_the_file_once_and_prints_what_binds_it(
    lopsided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "relevance.jsonl"
    assert run_zoo(["sample", str(lopsided), str(out), "-n", "16"]) == 0
    printed = capsys.readouterr()
    entry = yaml.safe_load(printed.out)["suites"][0]
    assert entry == {"name": "relevance", "data": str(out), "sha256": sha256_file(out)}
    assert '8  "no"' in printed.err
    assert run_zoo(["sample", str(lopsided), str(out)]) == 2
    assert sha256_file(out) == entry["sha256"]


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n")
    with pytest.raises(SpecError):
        draw(tmp_path / "bad.jsonl", samples=3)
