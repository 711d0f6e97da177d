"""`zoo schema`."""

import json

import pytest

from zoo.cli import run
from zoo.specs.io_file import parse_io
from zoo.specs.published import SHIPPED


def test_it_prints_the_shipped_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "io"]) == 0
    printed = capsys.readouterr()
    assert printed.out == SHIPPED.read_text(encoding="utf-8")
    assert not printed.err


@pytest.mark.parametrize("name", ["release", "flow"])
def test_it_prints_the_others(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", name]) == 0
    assert json.loads(capsys.readouterr().out)["$id"] == f"urn:alora-zoo:{name}:1"


def test_the_editors_line_is_a_comment_that_loading_passes_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "io", "--yaml-comment"]) == 0
    line = capsys.readouterr().out
    assert line == "# yaml-language-server: $schema=io.schema.json\n"
    assert parse_io((line + "name: x\n").encode(), name="io.yaml").spec.name == "x"


def test_another_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "card"]) == 2
    assert "release" in capsys.readouterr().err
