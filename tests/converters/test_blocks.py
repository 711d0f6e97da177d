"""NeMo, Megatron-Bridge, ResLoRA and NoRA: each layout's traps, what is refused, and hostile archives."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.converters import oracle
from tests.converters.foreign import ALPHA, Made, R
from tests.converters.foreign_blocks import GROUPS, HEADS, megatron, nemo, nora, reslora
from tests.converters.test_readers import folded, updates
from zoo.converters.nemo_file import NemoFile
from zoo.converters.source import Source
from zoo.errors import RefusedError, UsageError
from zoo.models import BaseModel

Tensors = dict[str, torch.Tensor]
Break = Callable[[Path], Any]


def tensors(change: Callable[[Tensors], Tensors]) -> Break:
    return lambda path: save_file({n: t.contiguous() for n, t in change(load_file(path)).items()}, path)


def config(**changes: Any) -> Break:
    def apply(path: Path) -> None:
        file = path / "reslora_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return apply


def test_query_groups_are_not_three_blocks_of_rows(tiny_base: BaseModel, tmp_path: Path) -> None:
    """NeMo's own convert_nemo_to_canonical cuts the rows into queries, keys and values, one after another."""
    made = megatron(tiny_base, tmp_path / "adapter")
    raw = load_file(made.path)
    found = updates(folded(made.path, tiny_base, alpha=ALPHA))
    name = "decoder.layers.0.self_attention.linear_qkv.adapter"
    whole = raw[f"{name}.linear_out.weight"].double() @ raw[f"{name}.linear_in.weight"].double() * (ALPHA / R)
    size = whole.shape[0] // (HEADS + 2 * GROUPS)
    cut = dict(zip("qkv", whole.split([HEADS * size, GROUPS * size, GROUPS * size]), strict=True))
    wrong = {**found, **{f"model.layers.0.self_attn.{side}_proj": cut[side] for side in "qkv"}}
    assert oracle.worst(found, made.updates) < 1e-7
    assert oracle.worst(wrong, made.updates) > 0.3


def test_nemo_without_alpha_means_a_scale_of_one(tiny_base: BaseModel, tmp_path: Path) -> None:
    made = nemo(tiny_base, tmp_path / "adapter", alpha="null")
    found = updates(folded(made.path, tiny_base))
    assert oracle.worst(found, {path: update * R / ALPHA for path, update in made.updates.items()}) < 1e-7


def test_an_unpacked_nemo_archive_is_read(tiny_base: BaseModel, tmp_path: Path) -> None:
    made = nemo(tiny_base, tmp_path / "adapter")
    with tarfile.open(made.path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert oracle.worst(updates(folded(tmp_path / "unpacked", tiny_base)), made.updates) < 1e-7


BROKEN: dict[str, tuple[Callable[[BaseModel, Path], Made], str, Break]] = {
    "megatron half a pair": (
        megatron,
        "ZV016",
        tensors(lambda w: {n: t for n, t in w.items() if "0.mlp.linear_fc2.adapter.linear_in" not in n}),
    ),
    "megatron of another width": (
        megatron,
        "ZV017",
        tensors(lambda w: {n: t[:-8] if "qkv.adapter.linear_out" in n else t for n, t in w.items()}),
    ),
    "megatron dora": (
        megatron,
        "ZV008",
        tensors(lambda w: {**w, "decoder.layers.0.mlp.linear_fc2.adapter.weight_magnitude": torch.ones(32)}),
    ),
    "megatron norm": (
        megatron,
        "ZV015",
        tensors(lambda w: {**w, "decoder.layers.0.mlp.linear_fc2.adapter.layer_norm.weight": torch.ones(32)}),
    ),
    "megatron experts": (
        megatron,
        "ZV010",
        tensors(lambda w: {n.replace("mlp.linear", "mlp.experts.linear"): t for n, t in w.items()}),
    ),
    "megatron stacked": (
        megatron,
        "ZV026",
        tensors(lambda w: {n.replace("layers.0.", "layers."): t for n, t in w.items() if "layers.0." in n}),
    ),
    "megatron before its core": (
        megatron,
        "ZV026",
        tensors(lambda w: {n.replace("decoder", "model.language_model.encoder"): t for n, t in w.items()}),
    ),
    "megatron of another model": (
        megatron,
        "ZV017",
        tensors(lambda w: {n.replace("layers.1", "layers.7"): t for n, t in w.items()}),
    ),
    "megatron unknown": (
        megatron,
        "ZV026",
        tensors(lambda w: {n.replace("linear_proj", "linear_pose"): t for n, t in w.items()}),
    ),
    "megatron twice": (
        megatron,
        "ZV016",
        tensors(lambda w: {**w, **{f"module.{n}": t.clone() for n, t in w.items() if "fc2" in n}}),
    ),
    "reslora of inputs": (reslora, "ZV012", config(res_flag=1)),
    "reslora of middles": (reslora, "ZV012", config(res_flag=3)),
    "reslora rank": (reslora, "ZV016", config(rank=R + 1)),
    "reslora reach": (reslora, "ZV016", config(pre_num="far")),
    "reslora without its config": (
        reslora,
        "ZV024",
        lambda path: (path / "reslora_config.json").unlink(),
    ),
    "reslora with half a config": (
        reslora,
        "ZV016",
        lambda path: (path / "reslora_config.json").write_text('{"rank": 3'),
    ),
    "nora inner": (
        nora,
        "ZV016",
        tensors(lambda w: {n: t[:1] if n.endswith("w_lora_R") else t for n, t in w.items()}),
    ),
    "nora nan": (
        nora,
        "ZV016",
        tensors(lambda w: {n: t * torch.nan if n.endswith("w_lora_R") else t for n, t in w.items()}),
    ),
    "nora without its inner factors": (
        nora,
        "ZV016",
        tensors(lambda w: {n: t for n, t in w.items() if not n.endswith("0.mlp.down_proj.w_lora_RA")}),
    ),
}


@pytest.mark.parametrize(("make", "code", "break_it"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_is_refused(
    make: Callable[[BaseModel, Path], Made], code: str, break_it: Break, tiny_base: BaseModel, tmp_path: Path
) -> None:
    made = make(tiny_base, tmp_path / "adapter")
    said = {} if make is reslora else {"alpha": ALPHA}
    folded(made.path, tiny_base, **said)
    break_it(made.path)
    with pytest.raises(RefusedError) as refused:
        folded(made.path, tiny_base, **said)
    assert refused.value.code == code
    assert refused.value.hint


@pytest.mark.parametrize("make", [megatron, nora])
def test_a_flat_file_does_not_say_alpha(make: Any, tiny_base: BaseModel, tmp_path: Path) -> None:
    made = make(tiny_base, tmp_path / "adapter")
    with pytest.raises(RefusedError) as refused:
        folded(made.path, tiny_base)
    assert refused.value.code == "ZV024"


def test_a_layer_of_reslora_that_is_missing_breaks_the_chain(tiny_base: BaseModel, tmp_path: Path) -> None:
    made = reslora(tiny_base, tmp_path / "adapter")
    tensors(lambda w: {n: t for n, t in w.items() if "layers.0.self_attn.v_proj" not in n})(
        made.path / "adapters.safetensors"
    )
    with pytest.raises(RefusedError, match="the modules after it use what it has") as refused:
        folded(made.path, tiny_base)
    assert refused.value.code == "ZV016"


def test_a_model_in_parallel_parts_is_refused_by_name(tiny_base: BaseModel, tmp_path: Path) -> None:
    made = nemo(tiny_base, tmp_path / "adapter", parts=2)
    with pytest.raises(RefusedError, match="several parallel parts") as refused:
        folded(made.path, tiny_base)
    assert refused.value.code == "ZV026"


@pytest.mark.parametrize("inside", ["", "weights", "iter_0000100"])
def test_a_distributed_checkpoint_is_refused_by_name(inside: str, tmp_path: Path) -> None:
    (tmp_path / "run" / inside).mkdir(parents=True)
    (tmp_path / "run" / inside / "__0_0.distcp").write_bytes(b"\0")
    with pytest.raises(RefusedError, match="distributed checkpoint of Megatron") as refused:
        Source.open(tmp_path / "run")
    assert refused.value.code == "ZV026"


def archive(path: Path, *members: tuple[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def zeros(path: Path) -> Path:
    path.write_bytes(b"\0" * 2000)
    return path


def linked(path: Path) -> Path:
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("model_weights.ckpt")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        file.addfile(info)
    return path


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "no archive": zeros,
    "empty": lambda path: archive(path),
    "a link": linked,
    "a way out": lambda path: archive(path, ("../../model_weights.ckpt", b"x")),
    "no tensors": lambda path: archive(path, ("model_weights.ckpt", b"x" * 100)),
    "two of them": lambda path: archive(path, ("model_weights.ckpt", b"x"), ("./model_weights.ckpt", b"y")),
    "a bomb": lambda path: archive(path, ("model_weights.ckpt", b"\0" * 5_000_000), mode="w:gz"),
    "many members": lambda path: archive(path, *[(f"{number}", b"") for number in range(1200)]),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive_is_refused(make: Callable[[Path], Path], tmp_path: Path) -> None:
    make(tmp_path / "it.nemo")
    with pytest.raises(RefusedError) as refused:
        _ = NemoFile(path=tmp_path / "it.nemo").shapes
    assert refused.value.code in ("ZV014", "ZV026")
    assert not list(tmp_path.parent.glob("model_weights*"))


def test_settings_that_are_none_are_none(tmp_path: Path) -> None:
    from zoo.converters.nemo_file import parse_settings

    assert parse_settings(b"- 1\n") == {}
    assert parse_settings(b"!!python/object/apply:os.system ['true']") == {}
    assert parse_settings(b"\xff") == {}


def test_alpha_is_not_for_reslora(tiny_base: BaseModel) -> None:
    from zoo.converters.planning import refuse_unused

    with pytest.raises(UsageError, match="reslora is none of them"):
        refuse_unused(["reslora"], weights="", alpha=4.0, initial=None)
    refuse_unused(["megatron"], weights="", alpha=4.0, initial=None)
