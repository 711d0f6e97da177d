import json

import pytest

from zoo.validators.conformance.vectors.__main__ import main


def test_the_table_names_every_group_and_ends_with_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference"]) == 0
    said = capsys.readouterr().out
    assert "chunks " in said
    assert said.splitlines()[-1].startswith("agrees: reference, 112 of 115 vectors run: 112 agree")


def test_a_known_deviation_is_fine_unless_strict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["peft", "--group", "embeds"]) == 0
    said = capsys.readouterr().out
    assert "fails as known  embeddings without ids" in said
    assert main(["peft", "--group", "embeds", "--strict"]) == 1


def test_nothing_that_can_be_run_is_incomplete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--group", "embeds"]) == 3
    assert "INCOMPLETE: reference, 0 of 3 vectors run" in capsys.readouterr().out


def test_json_and_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--group", "absent", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {one["outcome"] for one in document["results"]} == {"agrees"}
    assert main(["reference", "--group", "absent", "--all"]) == 0
    assert "agrees          absent-in-one-token: 1 of 1 positions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nosuch"], "no engine is called 'nosuch'"), (["reference", "--group", "x"], "no group of vectors")],
)
def test_what_does_not_exist_is_usage(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    found = capsys.readouterr()
    assert said in found.err
    assert not found.out


def test_an_engine_that_is_not_installed_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.validators.conformance.engines import kinds

    monkeypatch.setattr(kinds.EngineKind, "open", None)
    absent = tuple(
        kind
        if kind.name != "llama-server"
        else kinds.EngineKind(
            name=kind.name, install=kind.install, find=lambda: None, known=kind.known, start=kind.start
        )
        for kind in kinds.ENGINES
    )
    monkeypatch.setattr(kinds, "ENGINES", absent)
    assert main(["llama-server"]) == 3
    assert "pip install 'alora-zoo[llama]'" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_judged_by_a_wider_tolerance(
    dtype: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reference", "--dtype", dtype, "--tolerance", "0.3"]) == 0
    assert main(["reference", "--dtype", dtype, "--group", "turns"]) == 1


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_tolerance_is_a_positive_number(value: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reference", "--tolerance", value])
    assert ended.value.code == 2
