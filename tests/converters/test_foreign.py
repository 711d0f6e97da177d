"""Other trainers' layouts: zoo's reading against the trainer's own formula on its own layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.converters import foreign, oracle
from tests.converters.layouts import LAYOUTS
from tests.converters.test_readers import folded, gpt2, updates  # noqa: F401  (gpt2 is a fixture)
from zoo.converters.readers import read_checkpoint
from zoo.converters.source import Source
from zoo.errors import NotFoundError, RefusedError
from zoo.models import BaseModel

TIGHT = 1e-7


@pytest.mark.parametrize(("trainer", "make", "said"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_is_read_as_its_trainer_computes(
    trainer: str,
    make: Callable[[BaseModel, Path], foreign.Made],
    said: dict[str, Any],
    tiny_base: BaseModel,
    tmp_path: Path,
) -> None:
    made = make(tiny_base, tmp_path / "adapter")
    result = folded(made.path, tiny_base, **said)
    assert read_checkpoint(Source.open(made.path), tiny_base, options(**said)).format == trainer
    assert oracle.worst(updates(result), made.updates) < TIGHT


def options(**said: Any) -> Any:
    from zoo.converters.checkpoint import ReadOptions

    return ReadOptions(**said)


def test_loralib_merged_projections(gpt2: BaseModel, tmp_path: Path) -> None:  # noqa: F811
    made = foreign.loralib(gpt2, tmp_path / "adapter")
    result = folded(made.path, gpt2, alpha=foreign.ALPHA)
    assert oracle.worst(updates(result), made.updates) < TIGHT
    wrong = folded(made.path, gpt2, alpha=2 * foreign.ALPHA)
    assert oracle.worst(updates(wrong), made.updates) > 0.9


@pytest.mark.parametrize("make", [foreign.mlx_dora, foreign.lycoris_dora])
def test_dora_magnitudes_of_rows_and_of_columns_are_told_apart(
    make: Callable[[BaseModel, Path], foreign.Made], tiny_base: BaseModel, tmp_path: Path
) -> None:
    made = make(tiny_base, tmp_path / "adapter")
    with pytest.raises(RefusedError) as refused:
        folded(made.path, tiny_base)
    assert refused.value.code == "ZV008"
    assert "at rank" in refused.value.message
    assert "--recover cannot" in refused.value.hint  # PEFT would be the teacher, and loads neither
    result = folded(made.path, tiny_base, max_error=1e-9)
    assert oracle.worst(updates(result), made.updates) < TIGHT


@pytest.mark.parametrize("part", ["torchtune", "kohya", "mlx", "litgpt q v"])
def test_the_comparison_notices_a_wrong_reading(part: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    """Each layout's own trap, fallen into on purpose."""
    _, make, said = LAYOUTS[part]
    made = make(tiny_base, tmp_path / "adapter")
    found = updates(folded(made.path, tiny_base, **said))
    path = "model.layers.0.self_attn.q_proj"
    traps = {
        "torchtune": lambda u: u.view(4, 2, 4, -1).transpose(1, 2).reshape(u.shape),  # q not permuted back
        "kohya": lambda u: u * foreign.R / foreign.ALPHA,  # alpha overlooked
        "mlx": lambda u: u.T,  # a square module's factors exchanged
        "litgpt q v": lambda u: u.roll(8, 0),  # rows of another head
    }
    wrong = {**found, path: traps[part](found[path])}
    assert oracle.worst(wrong, made.updates) > 0.3


Break = Callable[[Path], Path]


def tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Break:
    def apply(path: Path) -> Path:
        file = path if path.is_file() else next(path.glob("*.safetensors"))
        save_file({n: t.contiguous() for n, t in change(load_file(file)).items()}, file)
        return path

    return apply


def document(**changes: Any) -> Break:
    def apply(path: Path) -> Path:
        file = path / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        return path

    return apply


BROKEN: dict[str, tuple[str, str, Break]] = {
    "mlx turned already": ("mlx", "ZV016", tensors(lambda w: {n: t.T for n, t in w.items()})),
    "mlx without a scale": ("mlx", "ZV024", document(lora_parameters={"rank": 3})),
    "mlx of another rank": ("mlx", "ZV016", document(lora_parameters={"rank": 4, "scale": 2.0})),
    "mlx with a scale of text": ("mlx", "ZV016", document(lora_parameters={"rank": 3, "scale": "big"})),
    "mlx full": ("mlx", "ZV001", document(fine_tune_type="full")),
    "mlx experts": ("mlx", "ZV010", tensors(lambda w: {n: t[None] for n, t in w.items()})),
    "mlx embedding": (
        "mlx",
        "ZV005",
        tensors(lambda w: {n.replace("layers.0.self_attn.q_proj", "embed_tokens"): t for n, t in w.items()}),
    ),
    "mlx stray": ("mlx", "ZV015", tensors(lambda w: {**w, "model.norm.weight": torch.ones(32)})),
    "mlx half": (
        "mlx",
        "ZV016",
        tensors(lambda w: {n: t for n, t in w.items() if "0.self_attn.q_proj.lora_b" not in n}),
    ),
    "mlx nan": ("mlx", "ZV016", tensors(lambda w: {n: t * torch.nan for n, t in w.items()})),
    "kohya unknown module": (
        "kohya",
        "ZV017",
        tensors(lambda w: {n.replace("q_proj", "query"): t for n, t in w.items()}),
    ),
    "kohya two alphas": (
        "kohya",
        "ZV016",
        tensors(lambda w: {n: t.repeat(2) if n.endswith("alpha") else t for n, t in w.items()}),
    ),
    "kohya mixed up": (
        "kohya",
        "ZV017",
        tensors(
            lambda w: {
                n.replace("q_proj", "#").replace("down_proj", "q_proj").replace("#", "down_proj"): t
                for n, t in w.items()
            }
        ),
    ),
    "bare without alpha": ("bare", "ZV024", lambda path: path),
    "no known format": ("bare", "ZV026", tensors(lambda w: {f"x{i}": t for i, t in enumerate(w.values())})),
}


@pytest.mark.parametrize(("layout", "code", "break_it"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused(
    layout: str, code: str, break_it: Break, tiny_base: BaseModel, tmp_path: Path
) -> None:
    made = LAYOUTS[layout][1](tiny_base, tmp_path / "adapter")
    with pytest.raises(RefusedError) as refused:
        folded(break_it(made.path), tiny_base)
    assert refused.value.code == code
    assert refused.value.hint


def test_names_that_are_one_without_dots_are_refused(tmp_path: Path, tiny_base: BaseModel) -> None:
    made = foreign.kohya(tiny_base, tmp_path / "adapter")
    broken = tensors(
        lambda w: {n.replace("model_layers_0_self_attn_", ""): t for n, t in w.items() if "layers_1" not in n}
    )
    with pytest.raises(RefusedError) as refused:
        folded(broken(made.path), tiny_base)
    assert refused.value.code == "ZV025"


def test_litgpt_without_its_settings_is_refused_where_it_could_be_either(
    tmp_path: Path, tiny_base: BaseModel
) -> None:
    made = foreign.litgpt(tiny_base, tmp_path / "adapter", said=False)  # query and key, or query and value
    with pytest.raises(RefusedError) as refused:
        folded(made.path, tiny_base, alpha=foreign.ALPHA)
    assert refused.value.code == "ZV025"


def test_torchtune_over_an_unknown_architecture_is_refused(tmp_path: Path, tiny_base: BaseModel) -> None:
    made = foreign.torchtune(tiny_base, tmp_path / "adapter")
    (tmp_path / "base").mkdir()
    for file in tiny_base.folder.iterdir():
        (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps({**config, "model_type": "other"}))
    other = BaseModel(id="other", revision="", folder=tmp_path / "base")
    with pytest.raises(RefusedError) as refused:
        folded(made.path, other, alpha=1.0)
    assert refused.value.code == "ZV025"


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_gguf_comes_back_as_it_went(
    kind: Any, make_adapter: Any, tiny_base: BaseModel, tmp_path: Path
) -> None:
    """Written by the exporter that is tested against llama.cpp itself: rows, alpha and invocation return."""
    from zoo.adapter import AdapterRepo
    from zoo.converters.exporters.gguf_adapter import export_gguf

    source = make_adapter(target_modules=["q_proj", "k_proj", "o_proj", "up_proj"])
    if kind == "f16":
        oracle.edit_weights(source, lambda w: {n: t.half() for n, t in w.items()})
    wanted = oracle.deltas(tiny_base, source)
    oracle.edit_config(source, alora_invocation_tokens=[1, 5])
    file = export_gguf(AdapterRepo(root=source, name="it"), tiny_base, tmp_path / "it.gguf", kind=kind)
    checkpoint = read_checkpoint(Source.open(file), tiny_base)
    assert checkpoint.format == "gguf"
    assert checkpoint.invocation is not None
    assert checkpoint.invocation.ids == (1, 5)
    found = updates(folded(file, tiny_base))
    assert oracle.worst(found, wanted) < 1e-6
    swapped = {
        path: u.view(4, 2, -1, 32).transpose(1, 2).reshape(32, 32) if "q_proj" in path else u
        for path, u in found.items()
    }
    assert oracle.worst(swapped, wanted) > 0.3


def test_a_damaged_gguf_is_refused(make_adapter: Any, tiny_base: BaseModel, tmp_path: Path) -> None:
    from zoo.adapter import AdapterRepo
    from zoo.converters.exporters.gguf_adapter import export_gguf

    whole = export_gguf(
        AdapterRepo(root=make_adapter(), name="it"), tiny_base, tmp_path / "it.gguf"
    ).read_bytes()
    for name, content in (
        ("cut", whole[: len(whole) // 2]),
        ("head", whole[:40]),
        ("noise", b"GGUF" + b"\xff" * 64),
    ):
        (tmp_path / f"{name}.gguf").write_bytes(content)
        with pytest.raises(RefusedError) as refused:
            folded(tmp_path / f"{name}.gguf", tiny_base)
        assert refused.value.code == "ZV016"


def test_a_file_of_another_kind_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(NotFoundError, match="no file of weights"):
        Source.open(tmp_path / "notes.txt")
