"""Readers against PEFT: the same checkpoint, loaded by PEFT and folded by zoo, must be the same update."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.converters import oracle
from zoo.converters.checkpoint import ReadOptions
from zoo.converters.fold import Folded, fold
from zoo.converters.readers import READERS, read_checkpoint
from zoo.converters.source import Source
from zoo.errors import NotFoundError, RefusedError, SpecError, UsageError
from zoo.models import BaseModel, load_model, resolve

Make = Callable[..., Path]
TIGHT = 1e-7  # float32 rounding of the folded lora_B; PEFT computes in float64 here


def folded(folder: Path, base: BaseModel, **options: Any) -> Folded:
    return fold(read_checkpoint(Source.open(folder), base, ReadOptions(**options)), base.linears)


def updates(result: Folded) -> dict[str, torch.Tensor]:
    names = [name for name in result.weights if ".lora_A." in name]
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): result.weights[
            name.replace("lora_A", "lora_B")
        ].double()
        @ result.weights[name].double()
        for name in names
    }


def bd_lora() -> Any:
    from peft.tuners.lora.config import BdLoraConfig

    return BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2)


VARIANTS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "one layer": lambda: {"layers_to_transform": [1]},
    "rslora": lambda: {"use_rslora": True, "r": 6},
    "patterns": lambda: {
        "rank_pattern": {"q_proj": 2, "k_proj": 7},
        "alpha_pattern": {"1.self_attn.v_proj": 3},
    },
    "rslora and patterns": lambda: {
        "use_rslora": True,
        "rank_pattern": {"v_proj": 3},
        "alpha_pattern": {"q_proj": 5},
    },
    "regex patterns": lambda: {"rank_pattern": {r"layers\.[1-9]\..*\.(q|k)_proj": 5}},
    "mlp": lambda: {"target_modules": ["up_proj", "down_proj"]},
    "gaussian": lambda: {"init_lora_weights": "gaussian"},
    "orthogonal": lambda: {"init_lora_weights": "orthogonal"},
    "mica": lambda: {"init_lora_weights": "mica"},
    "bd-lora": lambda: {"target_modules": ["q_proj", "o_proj"], "use_bdlora": bd_lora()},
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_fold_computes_what_peft_computes(
    settings: Callable[[], dict[str, Any]], make_adapter: Make, tiny_base: BaseModel
) -> None:
    source = oracle.edit_weights(make_adapter(**settings()), oracle.randomise)
    result = folded(source, tiny_base)
    assert oracle.worst(updates(result), oracle.deltas(tiny_base, source)) < TIGHT
    if "use_bdlora" not in settings():  # PEFT merges these as if they were plain, and fails
        assert oracle.worst(updates(result), oracle.deltas(tiny_base, source, merged=True)) < TIGHT
    assert result.fold_error < TIGHT
    assert {tensor.shape[0] for name, tensor in result.weights.items() if "lora_A" in name} == {result.rank}


@pytest.mark.parametrize("wrong", [{"use_rslora": False}, {"lora_alpha": 9}, {"alpha_pattern": {}}])
def test_the_comparison_notices_another_scale(
    wrong: dict[str, Any], make_adapter: Make, tiny_base: BaseModel
) -> None:
    source = make_adapter(use_rslora=True, alpha_pattern={"q_proj": 5})
    wanted = oracle.deltas(tiny_base, source)
    assert oracle.worst(updates(folded(oracle.edit_config(source, **wrong), tiny_base)), wanted) > 0.05


def respell(rule: Callable[[str], str]) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {rule(name): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    "rule",
    [
        lambda name: name.replace(".weight", ".default.weight"),
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.removeprefix("base_model.model.").replace(".weight", ".task.weight"),
        lambda name: name.removeprefix("base_model.model.model."),
    ],
    ids=["adapter name", "no prefix", "both", "no prefix, no outermost name"],
)
def test_old_spellings_are_read_and_written_as_peft_writes(
    rule: Callable[[str], str], make_adapter: Make, tiny_base: BaseModel
) -> None:
    source = make_adapter()
    plain = folded(source, tiny_base)
    checkpoint = read_checkpoint(Source.open(oracle.edit_weights(source, respell(rule))), tiny_base)
    respelt = fold(checkpoint, tiny_base.linears)
    assert checkpoint.renames
    assert list(respelt.weights) == list(plain.weights)
    assert all(torch.equal(respelt.weights[name], plain.weights[name]) for name in plain.weights)


def test_a_pickle_of_tensors_is_read(make_adapter: Make, tiny_base: BaseModel) -> None:
    from safetensors.torch import load_file

    source = make_adapter()
    wanted = folded(source, tiny_base)
    weights = source / "adapter_model.safetensors"
    torch.save(load_file(weights), source / "adapter_model.bin")
    weights.unlink()
    found = folded(source, tiny_base)
    assert all(torch.equal(found.weights[name], wanted.weights[name]) for name in wanted.weights)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return (os.mkdir, (os.environ["ZOO_TEST_BOMB"],))


@pytest.mark.parametrize("content", ["code", "a list", "garbage", "numbers"])
def test_a_pickle_of_anything_else_is_refused_and_runs_nothing(
    content: str, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_TEST_BOMB", str(tmp_path / "exploded"))
    source = make_adapter()
    (source / "adapter_model.safetensors").unlink()
    pickled: dict[str, Any] = {"code": {"x": Bomb()}, "a list": [torch.ones(2)], "numbers": {"x": 3}}
    if content == "garbage":
        (source / "adapter_model.bin").write_bytes(b"\x80\x04garbage")
    else:
        torch.save(pickled[content], source / "adapter_model.bin")
    with pytest.raises(RefusedError) as refused:
        folded(source, tiny_base)
    assert refused.value.code == "ZV014"
    assert not (tmp_path / "exploded").exists()


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    config = GPT2Config(
        vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return resolve(str(folder))


def test_fan_in_fan_out(gpt2: BaseModel, tmp_path: Path) -> None:
    from tests.conftest import build_adapter

    source = build_adapter(gpt2, tmp_path / "conv1d", target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    result = folded(source, gpt2)
    wanted = oracle.deltas(gpt2, source)
    assert wanted["transformer.h.0.attn.c_attn"].shape == (48, 16)  # not square: a transposition would show
    assert oracle.worst(updates(result), wanted) < TIGHT


def prepared(base: BaseModel, config: Any) -> Any:
    """The base, with what CorDA's and LoRA-GA's inits need: covariances of inputs, gradients of weights."""
    from peft.tuners.lora.corda import preprocess_corda
    from peft.tuners.lora.loraga import preprocess_loraga

    model: Any = load_model(base)
    ids = torch.randint(0, 200, (1, 160), generator=torch.Generator().manual_seed(1))
    if config.init_lora_weights == "corda":
        preprocess_corda(model, config, run_model=lambda: model(ids))
    if config.init_lora_weights == "lora_ga":
        model.requires_grad_(True)
        preprocess_loraga(model, config, lambda: model(ids, labels=ids).loss.backward())
    return model


@pytest.mark.filterwarnings("ignore:.*changes the base weights of the model:UserWarning")  # PEFT, converting
@pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")  # PEFT's LoRA-GA
@pytest.mark.filterwarnings(
    "ignore:`(corda|lora_ga)_config` specified but:UserWarning"
)  # once it is converted
@pytest.mark.parametrize("init", ["pissa", "olora", "corda", "lora_ga"])
@pytest.mark.parametrize("where", ["--initial", "pissa_init/ in the source"])
def test_an_init_that_changes_the_base_is_folded_as_peft_converts_it(
    init: str, where: str, tiny_base: BaseModel, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.config import CordaConfig, LoraGAConfig

    own: dict[str, Any] = {
        "corda": {"corda_config": CordaConfig(corda_method="kpm")},
        "lora_ga": {"lora_ga_config": LoraGAConfig()},
    }
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 6, "init_lora_weights": init, **own.get(init, {})}
    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], **settings)
    model: Any = get_peft_model(prepared(tiny_base, config), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "before")
    model.peft_config["default"].init_lora_weights = init
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    model.save_pretrained(tmp_path / "after")
    model.save_pretrained(
        tmp_path / "by-peft", path_initial_model_for_weight_conversion=str(tmp_path / "before")
    )
    wanted = oracle.deltas(tiny_base, tmp_path / "by-peft")

    with pytest.raises(RefusedError) as refused:
        folded(tmp_path / "after", tiny_base)
    assert refused.value.code == "ZV006"
    if where == "--initial":
        result = folded(tmp_path / "after", tiny_base, initial=tmp_path / "before")
    else:
        shutil.copytree(tmp_path / "before", tmp_path / "after" / "pissa_init")
        result = folded(tmp_path / "after", tiny_base)
    assert result.rank == 8
    assert oracle.worst(updates(result), wanted) < 1e-6


def test_lora_xs_multiplies_its_mapping_in(make_adapter: Make, tiny_base: BaseModel) -> None:
    source = make_adapter()
    without = updates(folded(source, tiny_base))
    generator = torch.Generator().manual_seed(3)

    def add(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        mappings = {
            name.replace(".lora_A.weight", "_lora_latent_mapping.weight"): torch.randn(
                4, 4, generator=generator
            )
            for name in weights
            if "lora_A" in name
        }
        return {**weights, **mappings}

    oracle.edit_weights(source, add)
    from safetensors.torch import load_file

    stored = load_file(source / "adapter_model.safetensors")
    found = updates(folded(source, tiny_base))
    for path, update in found.items():
        a, r, b = (
            stored[f"base_model.model.{path}{end}.weight"].double()
            for end in (".lora_A", "_lora_latent_mapping", ".lora_B")
        )
        torch.testing.assert_close(update, 2 * b @ r @ a, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(update, without[path], rtol=0.1)


def test_lm_head_of_a_tied_base_and_the_embedding_that_peft_saves_with_it(
    make_adapter: Make, tiny_base: BaseModel
) -> None:
    source = make_adapter()

    def add(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        embedding = load_model(tiny_base).get_parameter("model.embed_tokens.weight").detach().clone()
        return {
            **weights,
            "base_model.model.lm_head.lora_A.weight": torch.ones(4, 32),
            "base_model.model.lm_head.lora_B.weight": torch.ones(tiny_base.vocabulary, 4),
            "base_model.model.lm_head.base_layer.weight": embedding,
            "base_model.model.model.embed_tokens.weight": embedding.clone(),
        }

    checkpoint = read_checkpoint(Source.open(oracle.edit_weights(source, add)), tiny_base)
    assert "lm_head" in checkpoint.modules
    assert len(checkpoint.lost) == 2


def test_half_precision_stays_where_the_scale_is_a_power_of_two_and_widens_where_not(
    make_adapter: Make, tiny_base: BaseModel
) -> None:
    half = oracle.edit_weights(make_adapter(), lambda weights: {n: t.bfloat16() for n, t in weights.items()})
    exact = folded(half, tiny_base)
    assert (exact.dtype, exact.fold_error < 1e-14) == ("bfloat16", True)
    widened = folded(oracle.edit_config(half, lora_alpha=6), tiny_base)
    assert widened.dtype == "float32"
    assert widened.fold_error == 0.0  # eight bits times 1.5 are nine, which bfloat16 has not and float32 has
    rounded = folded(oracle.edit_config(half, lora_alpha=2.8), tiny_base)
    assert 0 < rounded.fold_error < TIGHT


def test_layouts_are_found(make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    source = make_adapter()
    for layout in ("flat", "answer/tiny/lora", "answer/lora/tiny", "answer_lora"):
        library = tmp_path / layout.replace("/", "-")
        shutil.copytree(source, library / layout)
        opened = Source.open(library)
        assert opened.name == ("flat" if layout == "flat" else "answer")
        assert len(read_checkpoint(opened, tiny_base).modules) == 6


def test_the_legacy_format_is_chosen_by_content(make_adapter: Make, tiny_base: BaseModel) -> None:
    source = make_adapter(r=32, lora_alpha=16)
    assert read_checkpoint(Source.open(source), tiny_base).format == "peft"
    config = json.loads((source / "adapter_config.json").read_text())
    del config["alora_invocation_tokens"], config["r"]
    (source / "adapter_config.json").write_text(
        json.dumps({**config, "invocation_string": "<|im_start|>check\n"})
    )
    checkpoint = read_checkpoint(Source.open(source), tiny_base)
    assert checkpoint.format == "alora-0.3"
    assert checkpoint.config.r == 32  # alora's default, PEFT's is 8
    assert any("no scale in batches" in warning for warning in checkpoint.warnings)
    oracle.edit_config(source, lora_alpha=32)
    assert not read_checkpoint(Source.open(source), tiny_base).warnings


def test_readers_have_names_of_their_own() -> None:
    assert len({reader.name for reader in READERS}) == len(READERS)


def test_wrong_input_is_said_in_one_sentence(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        Source.open(tmp_path / "nowhere")
    with pytest.raises(NotFoundError, match="is not an adapter"):
        Source.open(tiny_base.folder)
    bad = make_adapter()
    (bad / "adapter_model.safetensors").rename(bad / "model.pt")
    with pytest.raises(NotFoundError, match="holds neither"):
        Source.open(bad)
    for text in ("{", "[]", '{"r": 8}', '{"peft_type": "LORA", "r": 10000000}', "[" * 100_000):
        (bad / "adapter_config.json").write_text(text)
        with pytest.raises(SpecError) as broken:
            Source.open(bad)
        assert broken.value.code == "ZC001"
    with pytest.raises(UsageError, match="--initial"):
        folded(make_adapter("other"), tiny_base, initial=tmp_path)
