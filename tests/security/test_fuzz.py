"""A sample of the fuzzing; `python -m tests.security.fuzz` does more of it."""

import json
from pathlib import Path

import pytest

from tests.security.fuzz import Parser, fuzz, trial
from tests.security.parsers import PARSERS, SLOW

EXAMPLES, FEW = 60, 5


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_reads_or_refuses(name: str, tmp_path: Path) -> None:
    fuzz(PARSERS[name], tmp_path, FEW if name in SLOW else EXAMPLES)


@pytest.mark.parametrize("name", PARSERS)
def test_it_begins_from_an_input_that_parses_or_is_refused_in_words(name: str, tmp_path: Path) -> None:
    assert not trial(PARSERS[name], PARSERS[name].seed(), tmp_path)


def test_a_parser_that_raises_something_else_is_found(tmp_path: Path) -> None:
    careless = Parser(read=lambda content, folder: json.loads(content), seed=lambda: b"{}")
    with pytest.raises(AssertionError, match=r"JSONDecodeError|UnicodeDecodeError"):
        fuzz(careless, tmp_path, 50)
