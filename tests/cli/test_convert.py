"""`zoo convert` as a command: what it prints where, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.converters import foreign, oracle
from tests.converters.test_extract import tune
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


def test_the_plan_of_a_calibrated_recovery_says_what_it_adds(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("{}\n")
    given = ["--dry-run", "--base", tiny_base.folder, "--invocation", WRITTEN, "--recover", data]
    source = make_adapter()
    plain, calibrated = (run(source, *given, *more) for more in ([], ["--calibrate"]))
    assert (plain[0], calibrated[0]) == (0, 0)
    assert "add output projections" in calibrated[1]
    assert "add output projections" not in plain[1]


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


def test_what_a_stranger_wrote_does_not_reach_the_terminal_as_it_is(
    run: Run, make_adapter: Make, tiny_base: BaseModel
) -> None:
    source = oracle.edit_config(make_adapter(), **{"\x1b[2J\u202ekey": 1})
    oracle.edit_weights(source, lambda w: {n.replace(".weight", ".\x1b[1m.weight"): t for n, t in w.items()})
    code, said, _ = run(source, "--dry-run", "--base", tiny_base.folder, "--invocation", WRITTEN)
    assert code == 0
    assert said.count("\\x1b") == 2
    assert "\x1b" not in said
    assert "\u202e" not in said


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


def test_several_sources_are_one_release_only_when_added_up(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    sources = [make_adapter(name, r=rank) for name, rank in (("a", 3), ("b", 2))]
    options = ("--base", tiny_base.folder, "--invocation", WRITTEN)
    out = tmp_path / "out"
    code, _, complained = run(*sources, out, *options)
    assert (code, out.exists()) == (2, False)
    assert "--concat" in complained
    code, _, complained = run(*sources, "--dry-run", *options)
    assert (code, "not empty" in complained) == (2, True)
    code, said, _ = run(*sources, "--concat", "--dry-run", "--json", *options)
    assert (code, json.loads(said)["plan"]["ranks"]) == (0, [5])
    code, said, _ = run(*sources, out, "--concat", "--weights", "1,0.5", "--truncate", "2", *options)
    assert code == 0
    assert "truncated to rank 2: relative error" in said
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--concat"], "two adapters"),
        (["--truncate", "all"], "cannot truncate"),
        (["--truncate", "64"], "nothing to truncate"),
        (["--grow", "2"], "would lose"),
        (["--project-safe", "paper"], "before and after"),
        (["--aligned", "x"], "--project-safe"),
        (["--weights", "0.5"], "--concat"),
        (["--alpha", "16"], "formats that do not store it"),
        (["--initial", "."], "--initial is"),
        (["--legacy-boundary", "inclusive"], "alora package"),
    ],
)
def test_changes_that_cannot_be_made(
    options: list[str], word: str, run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, _, complained = run(
        make_adapter(), out, "--base", tiny_base.folder, "--invocation", WRITTEN, *options
    )
    assert (code, out.exists()) == (2, False)
    assert word in complained
    code, said, complained = run(
        make_adapter("b"), "--dry-run", "--base", tiny_base.folder, "--invocation", WRITTEN, *options
    )
    assert (code, said, word in complained) == (2, "", True)


def test_growing_and_safe_lora_are_in_the_lock(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    from tests.conftest import build_tiny_base

    unaligned = build_tiny_base(tmp_path / "unaligned", seed=4)
    pair = ("--aligned", tiny_base.folder, "--unaligned", unaligned)
    options = (
        "--base",
        tiny_base.folder,
        "--invocation",
        WRITTEN,
        "--grow",
        "8",
        "--project-safe",
        "4",
        *pair,
    )
    code, said, _ = run(make_adapter(), tmp_path / "out", *options, "--safe-modules", "2")
    assert code == 0
    assert "projector of rank 4" in said
    lock = json.loads((tmp_path / "out" / "zoo.lock.json").read_text())
    assert [change["kind"] for change in lock["conversion"]["changes"]] == ["project-safe", "grow"]


def test_a_file_without_its_scale_needs_alpha(run: Run, tiny_base: BaseModel, tmp_path: Path) -> None:
    made = foreign.bare(tiny_base, tmp_path / "adapter")
    more = ("--base", tiny_base.folder, "--invocation", WRITTEN)
    code, _, said = run(made.path, tmp_path / "out", *more)
    assert code == 1
    assert "ZV024" in said
    assert "--alpha" in said
    code, out, _ = run(made.path, tmp_path / "out", *more, "--alpha", str(foreign.ALPHA))
    assert code == 0
    assert "format loralib" in out
    assert oracle.worst(oracle.converted_deltas(tmp_path / "out"), made.updates) < 1e-6


def test_full_rank_is_refused_with_numbers_and_accepted_with_an_error(
    run: Run, tiny_base: BaseModel, tmp_path: Path
) -> None:
    made = foreign.mlx_dora(tiny_base, tmp_path / "adapter")
    more = ("--base", tiny_base.folder, "--invocation", WRITTEN)
    code, _, said = run(made.path, tmp_path / "out", *more)
    assert code == 1
    assert "at rank 16" in said
    assert "--max-error" in said
    code, out, _ = run(made.path, tmp_path / "out", *more, "--max-error", "0.2")
    assert code == 0
    assert "no exact low-rank form" in out
    assert 0.01 < oracle.worst(oracle.converted_deltas(tmp_path / "out"), made.updates) <= 0.2


def test_a_fine_tune_is_extracted(run: Run, tiny_base: BaseModel, tmp_path: Path) -> None:
    wanted = tune(tiny_base, tmp_path / "tuned", 2)
    more = ("--base", tiny_base.folder, "--invocation", WRITTEN, "--extract", "2")
    code, out, _ = run(tmp_path / "tuned", tmp_path / "out", *more)
    assert code == 0
    assert "format full fine-tune" in out
    assert oracle.worst(oracle.converted_deltas(tmp_path / "out"), wanted) < 1e-5


def test_auto_wants_sample_requests_that_are_there_and_a_contract_for_their_documents(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    adapter = make_adapter()
    said = ("--base", tiny_base.folder, "--invocation", WRITTEN, "--name", "check", "--recover", "auto")
    code, _, error = run(adapter, tmp_path / "out", *said, "--requests", tmp_path / "none.yaml")
    assert (code, "none.yaml does not exist" in error) == (2, True)
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"messages": [{"role": "user", "content": "Who?"}], "documents": [{"text": "He."}]}')
    code, _, error = run(adapter, tmp_path / "out", *said, "--requests", requests)
    assert (code, "ZD030" in error) == (2, True)
    assert not (tmp_path / "out").exists()
