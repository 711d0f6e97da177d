import json
import shutil
from pathlib import Path

import pytest

from tests.validators.conformance.bench import build_base
from zoo import embedded
from zoo.errors import BaseMissingError, NotFoundError, SpecError, UndecidedError, UsageError, ZooError
from zoo.models import BaseModel, load_model, resolve, resolve_named, resolve_reference


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_linears_are_those_of_the_loaded_model(tmp_path: Path, architecture: str) -> None:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    base = build_base(tmp_path / "base", architecture)
    loaded: dict[str, tuple[int, ...]] = {}
    for path, module in load_model(base).named_modules():
        if isinstance(module, Conv1D):
            loaded[path] = (module.weight.shape[1], module.weight.shape[0])
        elif (
            isinstance(module, nn.Linear) and path != "lm_head"
        ):  # in the checkpoint only where it is not tied
            loaded[path] = tuple(module.weight.shape)
    assert {path: shape for path, shape in base.linears.items() if path != "lm_head"} == loaded


def test_a_loaded_model_is_frozen_and_in_evaluation(tiny_base: BaseModel) -> None:
    import torch

    model = load_model(tiny_base, dtype="bfloat16")
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())


def test_loading_writes_no_progress_bar(tiny_base: BaseModel, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(tiny_base)
    captured = capfd.readouterr()
    assert "it/s" not in captured.err + captured.out


@pytest.mark.parametrize("spec", ["no-such-base", "./nowhere", "/nowhere/at/all", "~/nowhere/x", "a/b/c", ""])
def test_what_names_nothing(spec: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError) as caught:
        resolve(spec)
    assert caught.value.hint


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        resolve(str(tmp_path))


def test_a_local_folder_knows_the_id_it_was_copied_from(tiny_base: BaseModel, tmp_path: Path) -> None:
    assert tiny_base.id == "tests/tiny-llama"
    assert tiny_base.revision == ""
    folder = tmp_path / "copy"
    shutil.copytree(tiny_base.folder, folder)
    for content in (
        '{"vocab_size": 7}',
        '{"_name_or_path": "/a/b", "vocab_size": 7}',
        '{"_name_or_path": 3}',
    ):
        (folder / "config.json").write_text(content)
        assert resolve(str(folder)).id == "copy"


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 100_000])
def test_a_broken_config_is_one_sentence(tiny_base: BaseModel, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_base.folder, folder)
    (folder / "config.json").write_text(content)
    with pytest.raises(SpecError):
        resolve(str(folder)).config  # noqa: B018


def test_a_folder_without_weights_or_with_foreign_ones(tiny_base: BaseModel, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(tiny_base.folder, folder)
    (folder / "model.safetensors").unlink()
    base = resolve(str(folder))
    with pytest.raises(BaseMissingError, match="no safetensors weights"):
        base.tensors  # noqa: B018
    with pytest.raises(BaseMissingError, match="does not load"):
        load_model(base)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-model"}))
    with pytest.raises(ZooError):
        load_model(resolve(str(folder)))


def test_the_lock_names_the_weights_when_no_commit_does(tiny_base: BaseModel) -> None:
    lock = tiny_base.lock()
    assert lock.revision is None
    assert lock.weights_sha256 == tiny_base.weights_sha256
    assert len(lock.tokenizer_sha256) == 64


def test_the_embedded_base_by_its_name_and_by_its_reference(embedded_base: BaseModel) -> None:
    assert resolve_reference(embedded_base.reference()) == resolve(embedded.NAME)
    assert embedded_base.lock().source == embedded.SOURCE


def test_the_vocabulary_of_a_model_that_does_not_state_it(tiny_base: BaseModel, tmp_path: Path) -> None:
    folder = tmp_path / "silent"
    shutil.copytree(tiny_base.folder, folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(SpecError, match="vocab_size"):
        resolve(str(folder)).vocabulary  # noqa: B018
    (folder / "config.json").write_text('{"text_config": {"vocab_size": 12}}')
    assert resolve(str(folder)).vocabulary == 12


@pytest.mark.parametrize(
    ("device", "error"), [("banana", UsageError), ("cuda:97", UndecidedError), ("meta", UndecidedError)]
)
def test_a_device_that_is_not_here_is_named(
    tiny_base: BaseModel, device: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=device):
        load_model(tiny_base, device=device)


def test_a_base_that_an_adapter_names_is_no_folder_beside_it(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").symlink_to(tiny_base.folder)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name").folder == tiny_base.folder  # what the user names is a folder if there is one
    assert resolve_named(str(tiny_base.folder)).folder == tiny_base.folder
    for name in ("./org/name", "../org/name", "org", "~/org/name"):
        with pytest.raises(NotFoundError):
            resolve_named(name)
    monkeypatch.setattr("zoo.hub.download_base", lambda name, revision, weights: ("0" * 40, tmp_path))
    assert resolve_named("org/name").folder == tmp_path


def test_a_base_states_its_licence_in_its_card(tiny_base: BaseModel, tmp_path: Path) -> None:
    assert tiny_base.license == ""
    copy = Path(shutil.copytree(tiny_base.folder, tmp_path / "copy"))
    (copy / "README.md").write_text("---\nlicense: gemma\n---\n")
    assert resolve(str(copy)).license == "gemma"
    named = BaseModel(id="meta-llama/Llama-3.1-8B", revision="", folder=tiny_base.folder)
    assert named.license == "llama3.1"
