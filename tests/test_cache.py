import os
from pathlib import Path

import pytest

from zoo import cache
from zoo.errors import RefusedError
from zoo.template_sandbox import render


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "zoo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_root() == Path.home() / ".cache" / "zoo"


def test_a_question_is_answered_once_and_another_one_anew() -> None:
    asked: list[str] = []

    def ask(text: str) -> list[str]:
        def answer() -> list[str]:
            asked.append(text)
            return [text]

        return cache.remembered("k", text.encode(), answer)

    assert [ask(text) for text in ("a", "a", "b")] == [["a"], ["a"], ["b"]]
    assert asked == ["a", "b"]


def test_damage_and_a_folder_that_cannot_be_written_cost_time_only(own_cache: Path) -> None:
    cache.remembered("k", b"q", lambda: ["first"])
    (entry,) = (own_cache / "k").iterdir()
    entry.write_text('{"not": "a list"}')
    assert cache.remembered("k", b"q", lambda: ["second"]) == ["second"]

    (own_cache / "file").write_text("in the way")
    assert cache.remembered("file", b"q", lambda: ["third"]) == ["third"]


def test_only_the_newest_are_kept_and_large_questions_are_not(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MAX_ANSWERS", 3)
    for number in range(5):
        cache.remembered("k", bytes([number]), lambda: ["x"])
        for age, entry in enumerate(sorted((own_cache / "k").iterdir(), key=lambda e: e.stat().st_mtime)):
            os.utime(entry, (age, age))
    assert len(list((own_cache / "k").iterdir())) == 3

    monkeypatch.setattr(cache, "MAX_QUESTION_BYTES", 4)
    cache.remembered("large", b"12345", lambda: ["x"])
    assert not (own_cache / "large").exists()


def test_renderings_are_kept_unless_they_depend_on_the_clock(own_cache: Path) -> None:
    assert render("{{ a }}!", [{"a": "x"}]) == ["x!"]
    (entry,) = (own_cache / "renderings").iterdir()
    entry.write_text('["from the cache"]')
    assert render("{{ a }}!", [{"a": "x"}]) == ["from the cache"]
    assert render("{{ a }}!", [{"a": "y"}]) == ["y!"]

    (year,) = render("{{ strftime_now('%Y') }}", [{}])
    assert year.isdigit()
    with pytest.raises(RefusedError):
        render("{{ raise_exception('no') }}", [{}])
    assert len(list((own_cache / "renderings").iterdir())) == 2
