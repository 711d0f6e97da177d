"""`zoo convert` as a command: what it prints where, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.converters import oracle
from zoo.models import BaseModel

Make = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]
WRITTEN = "<|im_start|>check\\n"  # backslash and n, as a shell passes it on


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    from zoo.cli import run as run_zoo

    def zoo(*arguments: str | Path) -> tuple[int, str, str]:
        code = run_zoo(["convert", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return zoo


def test_a_conversion(run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, _ = run(
        make_adapter(), out, "--base", tiny_base.folder, "--invocation", WRITTEN, "--name", "check"
    )
    assert code == 0
    assert "'<|im_start|>check\\n' → ids" in said
    assert "UNVERIFIED" in said
    assert "--recover" in said
    assert (out / "zoo.lock.json").is_file()


def test_a_dry_run_writes_nothing(run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    source = make_adapter()
    before = sorted(tmp_path.rglob("*"))
    code, said, _ = run(source, "--dry-run", "--base", tiny_base.folder, "--invocation", WRITTEN)
    assert (code, sorted(tmp_path.rglob("*"))) == (0, before)
    assert "lora_alpha" in said


@pytest.mark.parametrize("dry", [True, False])
def test_json_is_the_whole_of_stdout(
    dry: bool, run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    more = ["--dry-run"] if dry else []
    code, said, _ = run(
        make_adapter(), tmp_path / "out", "--json", "--base", tiny_base.folder, "--invocation", WRITTEN, *more
    )
    document = json.loads(said)
    assert code == 0
    assert document["plan"]["invocation"]["text"] == "<|im_start|>check\n"
    assert ("folder" in document) is not dry


def test_the_legacy_boundary_is_an_option(run: Run, make_adapter: Make, tiny_base: BaseModel) -> None:
    source = oracle.edit_config(make_adapter(), invocation_string="<|im_start|>check\n")
    ids = {}
    for boundary in ("exclusive", "inclusive"):
        _, said, _ = run(
            source, "--dry-run", "--json", "--base", tiny_base.folder, "--legacy-boundary", boundary
        )
        ids[boundary] = json.loads(said)["plan"]["invocation"]["ids"]
    assert ids["exclusive"] == ids["inclusive"][1:]


@pytest.mark.parametrize(
    ("case", "code", "word"),
    [
        ("no source", 2, "does not exist"),
        ("not an adapter", 2, "is not an adapter"),
        ("bad json", 2, "ZC001"),
        ("no output", 2, "no output folder"),
        ("no invocation", 2, "--invocation"),
        ("another base", 1, "ZV017"),
        ("bias", 1, "ZV002"),
        ("no such base", 2, "no base model"),
        ("occupied", 2, "not empty"),
        ("unknown option", 2, "No such option"),
    ],
)
def test_wrong_input_ends_in_one_sentence(
    case: str, code: int, word: str, run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    from tests.conftest import build_tiny_base

    source, base, out = make_adapter(), str(tiny_base.folder), str(tmp_path / "out")
    arguments = [str(source), out, "--base", base, "--invocation", WRITTEN]
    match case:
        case "no source":
            arguments[0] = str(tmp_path / "gone")
        case "not an adapter":
            arguments[0] = base
        case "bad json":
            (source / "adapter_config.json").write_text("{'r': 8}")
        case "no output":
            del arguments[1]
        case "no invocation":
            arguments = arguments[:-2]
        case "another base":
            arguments[3] = str(build_tiny_base(tmp_path / "wide", hidden=64))
        case "bias":
            oracle.edit_config(source, bias="all")
        case "no such base":
            arguments[3] = "nothing"
        case "occupied":
            arguments[1] = base
        case _:
            arguments.append("--magic")
    found, said, complained = run(*arguments)
    assert (found, said) == (code, "")
    assert word in complained
    assert "Traceback" not in complained
    assert not (tmp_path / "out").exists()
