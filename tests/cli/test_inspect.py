"""`zoo inspect` as a command, on what zoo can fold and on what it cannot."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import build_tiny_base
from tests.converters import oracle
from zoo.converters.exporters.export import export
from zoo.converters.exporters.normal_form import NormalForm
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


def test_a_base_folder_is_followed_by_its_whole_path_only(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in the working folder, or beside the adapter, its author may have put there."""
    folder = make_adapter(alora_invocation_tokens=IDS)
    (tmp_path / "base").symlink_to(tiny_base.folder)
    monkeypatch.chdir(tmp_path)
    for named, read in ((str(tmp_path / "base"), True), ("base", False), ("./base", False)):
        oracle.edit_config(folder, base_model_name_or_path=named)
        code, said, _ = run(folder, "--json", "--quiet")
        document = json.loads(said)
        assert (code, document["base_read"] is not None) == (0, read)
        assert len(document["spectrum"]) == 6


@pytest.mark.parametrize("change", [{"use_qalora": True}, {"use_bdlora": {"nblocks": 2}}])
def test_factors_that_are_no_plain_pair_are_not_read_as_one(
    change: dict[str, object], run: Run, make_adapter: Make
) -> None:
    folder = oracle.edit_config(make_adapter(), base_model_name_or_path="nobody/nothing", **change)
    code, said, _ = run(folder, "--quiet", "--json")
    assert (code, json.loads(said)["spectrum"]) == (0, {})
    assert "without its base" in json.loads(said)["refusal"]


def test_broken_factors_are_refused_without_a_base_too(run: Run, make_adapter: Make) -> None:
    def twice(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        more = {name.replace(".weight", ".other.weight"): t.clone() for name, t in weights.items()}
        return {**weights, **more}

    def endless(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor / 0 for name, tensor in weights.items()}

    for number, change in enumerate((twice, endless)):
        folder = oracle.edit_config(make_adapter(str(number)), base_model_name_or_path="nobody/nothing")
        code, said, complained = run(oracle.edit_weights(folder, change), "--quiet")
        assert (code, said) == (1, "")
        assert "ZV016" in complained


def test_what_cannot_be_folded_is_compared_with_nothing(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    make_adapter("library/other")
    arguments = ("--against", tmp_path / "library", "--quiet")
    folder = make_adapter(use_dora=True)
    assert run(folder, *arguments, "--base", tiny_base.folder)[:2] == (1, "")
    oracle.edit_config(folder, base_model_name_or_path="nobody/nothing")
    code, said, complained = run(folder, *arguments)
    assert (code, said) == (3, "")
    assert "--base" in complained


def test_a_file_that_is_not_read_is_unknown_and_a_gguf_with_its_base_an_alora(
    run: Run, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp keeps the invocation in metadata: without a reader nobody knows whether there is one."""
    folder = make_adapter(alora_invocation_tokens=IDS)
    form = NormalForm.open(folder, base=str(tiny_base.folder))
    export(form, tmp_path / "mine.gguf", "gguf")
    monkeypatch.chdir(tmp_path)
    _, said, _ = run("mine.gguf", "--quiet")
    assert "adapter     mine\n" in said
    assert "kind        unknown" in said
    assert "invocation  unknown" in said
    _, said, _ = run("mine.gguf", "--base", tiny_base.folder, "--json", "--quiet")
    document = json.loads(said)
    assert (document["kind"], document["invocation"]["ids"]) == ("aLoRA", IDS)


def test_the_folder_one_stands_in_has_a_name(
    run: Run, make_adapter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(oracle.edit_config(make_adapter("here"), bias="all"))
    _, said, _ = run(".", "--quiet")
    assert "here cannot become an aLoRA" in said


def test_engines_that_do_the_same_are_one_line(run: Run, make_adapter: Make) -> None:
    _, said, _ = run(make_adapter(), "--quiet")
    assert said.count("it has no invocation tokens") == 1
    assert "peft, transformers, llama-server" in said


def test_the_picture(run: Run, make_adapter: Make, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    code, _, _ = run(make_adapter(r"$\frac$"), "--plot", tmp_path / "p.png", "--quiet")  # no mathematics
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
        (["--plot", "nowhere/p.png"], "no folder nowhere"),
    ],
)
def test_wrong_input_ends_in_one_sentence(
    arguments: list[str], word: str, run: Run, make_adapter: Make
) -> None:
    code, said, complained = run(make_adapter(), *arguments, "--quiet")
    assert (code, said) == (2, "")
    assert word in complained
    assert "Traceback" not in complained
