"""`zoo export` as a command."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.converters import foreign
from zoo.models import BaseModel

Make = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    from zoo.cli import run as run_zoo

    def zoo(*arguments: str | Path) -> tuple[int, str, str]:
        code = run_zoo(["export", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return zoo


@pytest.mark.parametrize("format", ["peft", "gguf", "mlx", "vllm", "sglang", "torchtune"])
def test_each_format(format: str, run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    out = tmp_path / ("out.gguf" if format == "gguf" else "out")
    code, said, _ = run(
        make_adapter(), out, "--format", format, "--base", tiny_base.folder, "--json", "--quiet"
    )
    document = json.loads(said)
    assert code == 0
    assert (document["format"], document["modules"], document["rank"]) == (format, 6, 4)
    assert out.exists()


def test_what_people_read(run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    code, said, _ = run(
        make_adapter(),
        tmp_path / "out",
        "--format",
        "peft",
        "--base",
        tiny_base.folder,
        "--dtype",
        "bfloat16",
    )
    assert code == 0
    assert "bfloat16, rounding" in said
    assert "every token" in said


def test_an_alora_is_refused_where_it_would_be_another_function(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    adapter = make_adapter(alora_invocation_tokens=[1, 300, 2])
    arguments = (adapter, tmp_path / "out", "--format", "mlx", "--base", tiny_base.folder)
    code, said, complained = run(*arguments)
    assert (code, said) == (1, "")
    assert "ZX007" in complained
    assert "--every-token" in complained
    assert run(*arguments, "--every-token")[0] == 0


def test_what_to_look_at_is_said(run: Run, tiny_base: BaseModel, tmp_path: Path) -> None:
    """kohya's missing alpha is a scale by convention: `zoo convert` says so, and so does this."""
    made = foreign.kohya(tiny_base, tmp_path / "adapter", alpha=False)
    code, said, _ = run(made.path, tmp_path / "out", "--format", "peft", "--base", tiny_base.folder)
    assert code == 0
    assert re.search(r"warning     \d+ modules have no alpha", said)


def test_a_target_that_exists_is_refused_before_any_work(
    run: Run, tiny_base: BaseModel, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for format in ("peft", "gguf"):
        code, said, complained = run(
            tmp_path / "no-adapter", tmp_path / "full", "--format", format, "--base", tiny_base.folder
        )
        assert (code, said) == (2, "")
        assert "full" in complained
        assert "no-adapter" not in complained


def test_no_format_is_a_usage_error(run: Run, make_adapter: Make, tmp_path: Path) -> None:
    code, said, complained = run(make_adapter(), tmp_path / "out")
    assert (code, said) == (2, "")
    assert "--format" in complained
