"""`zoo inspect` as a command, on what zoo can fold and on what it cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import build_tiny_base
from tests.converters import oracle
from zoo.models import BaseModel

Make = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]
IDS = [1, 300, 2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    from zoo.cli import run as run_zoo

    def zoo(*arguments: str | Path) -> tuple[int, str, str]:
        code = run_zoo(["inspect", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return zoo


def test_an_alora_with_and_without_its_base(run: Run, make_adapter: Make, tiny_base: BaseModel) -> None:
    folder = make_adapter(alora_invocation_tokens=IDS)
    code, said, _ = run(folder, "--quiet")
    assert code == 0
    assert "kind        aLoRA" in said
    assert f"ids {IDS}" in said
    assert "layer 1" in said
    assert "vllm" in said
    assert "refused" in said
    _, said, _ = run(folder, "--base", tiny_base.folder, "--json", "--quiet")
    document = json.loads(said)
    assert document["invocation"]["text"].startswith("<|im_start|>")
    assert document["ranks"] == [4]
    assert document["targets"] == {"k_proj": 2, "q_proj": 2, "v_proj": 2}
    assert len(document["spectrum"]) == 6
    assert document["engines"]["peft"]["verdict"] == "by the rule"
    assert document["against"] is document["safety"] is None


def test_what_cannot_be_folded_is_described_and_the_reason_is_said(
    run: Run, make_adapter: Make, tiny_base: BaseModel
) -> None:
    folder = make_adapter(use_dora=True)
    code, said, _ = run(folder, "--quiet")
    assert code == 0
    assert "LoRA: DoRA" in said
    assert "--base" in said
    code, said, _ = run(folder, "--base", tiny_base.folder, "--quiet", "--json")
    document = json.loads(said)
    assert (code, document["spectrum"]) == (0, {})
    assert document["refusal"].startswith("ZV008")
    code, _, complained = run(folder, "--plot", folder.parent / "p.png", "--quiet")
    assert code == 2
    assert "no spectrum" in complained


@pytest.mark.parametrize(
    ("change", "code"), [({"init_lora_weights": "pissa"}, "ZV006"), ({"bias": "all"}, "ZV002")]
)
def test_what_a_config_alone_refuses_is_no_update_without_a_base_either(
    change: dict[str, object], code: str, run: Run, make_adapter: Make
) -> None:
    """The factors of a PiSSA are most of the base weight: their spectrum is not the update's."""
    folder = oracle.edit_config(make_adapter(), base_model_name_or_path="nobody/nothing", **change)
    done, said, _ = run(folder, "--quiet", "--json")
    assert (done, json.loads(said)["spectrum"]) == (0, {})
    assert json.loads(said)["refusal"].startswith(code)


def test_a_rank_that_the_factors_do_not_have_is_said_without_a_base(run: Run, make_adapter: Make) -> None:
    """Its scale is alpha over a rank: over a wrong one every norm that is printed would be wrong."""
    folder = oracle.edit_config(make_adapter(r=4), base_model_name_or_path="nobody/nothing", r=8)
    done, said, complained = run(folder, "--quiet")
    assert (done, said) == (1, "")
    assert "ZV016" in complained


def test_the_picture(run: Run, make_adapter: Make, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code, _, _ = run(make_adapter(), "--plot", tmp_path / "p.png", "--quiet")
    assert code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_library_is_compared_with(run: Run, make_adapter: Make, tmp_path: Path) -> None:
    make_adapter("library/one")
    oracle.edit_weights(make_adapter("library/two"), oracle.randomise)
    code, said, _ = run(tmp_path / "library" / "one", "--against", tmp_path / "library", "--quiet")
    assert code == 0
    assert "unrelated" in said
    assert str(tmp_path / "library" / "two") in said
    (tmp_path / "none").mkdir()
    _, said, _ = run(tmp_path / "library" / "one", "--against", tmp_path / "none", "--quiet")
    assert "no other adapter" in said


def test_alignment(run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    unaligned = build_tiny_base(tmp_path / "unaligned", seed=4)
    pair = ("--aligned", tiny_base.folder, "--unaligned", unaligned)
    code, said, _ = run(make_adapter(), "--safety", *pair, "--quiet")
    assert code == 0
    assert "alignment (paper)" in said
    assert "model.layers.1.self_attn.q_proj" in said
    assert "measure refusals" in said
    code, said, _ = run(make_adapter(), "--safety", *pair, "--safe-map", "4", "--json", "--quiet")
    safety = json.loads(said)["safety"]
    assert safety["mode"] == "projector of rank 4"
    assert all(0 < one["energy"] < 1 for one in safety["modules"].values())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--aligned", "x"], "--safety"),
        (["--safe-map", "4"], "--safety"),
        (["--safe-modules", "0.4"], "--safety"),
        (["--safety"], "before and after"),
        (["--safety", "--aligned", "no/such/model", "--unaligned", "x"], "no base model"),
        (["--base", "nothing"], "no base model"),
        (["--against", "nowhere"], "not a folder"),
    ],
)
def test_wrong_input_ends_in_one_sentence(
    arguments: list[str], word: str, run: Run, make_adapter: Make
) -> None:
    code, said, complained = run(make_adapter(), *arguments, "--quiet")
    assert (code, said) == (2, "")
    assert word in complained
    assert "Traceback" not in complained
