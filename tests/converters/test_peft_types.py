"""What becomes of every `peft_type` of the installed PEFT, and the methods with tests of their own."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import peft
import pytest
import torch

from tests.converters import oracle
from tests.converters.peft_methods import (
    DENSE,
    EXACT,
    FOLDED,
    INPUT,
    MEASURED,
    NO_WEIGHT,
    REFUSED,
    TARGETS,
    TYPES,
    build,
)
from tests.converters.test_readers import folded, updates
from zoo.converters.readers import read_checkpoint
from zoo.converters.readers.method_tensors import _split
from zoo.converters.source import Source
from zoo.converters.variants.catalog import METHODS, NO_UPDATE
from zoo.errors import MissingExtraError, RefusedError
from zoo.models import BaseModel, load_model

Make = Callable[..., Path]
TESTED_HERE = {"ADAMSS", "POLY"}
SAID = {
    INPUT: "anew for each token|by the mean of the input|depends on the input",
    NO_WEIGHT: "updates no weight|trains (normalisation layers|embedding rows|biases)",
}


def test_every_type_of_the_installed_peft_is_in_the_table() -> None:
    assert set(TYPES) == {kind.value for kind in peft.PeftType}


def test_the_table_says_what_zoo_does() -> None:
    found = {
        kind: FOLDED if method.build else MEASURED for kind, method in METHODS.items() if kind != "BONE"
    } | dict.fromkeys(NO_UPDATE, REFUSED)
    said = {kind: fate if isinstance(fate, str) else fate[0] for kind, fate in TYPES.items()}
    assert found | {"LORA": FOLDED} == said  # PEFT no longer has Bone; MiSS computes the same


def test_what_is_folded_or_measured_is_compared_with_peft() -> None:
    exact, dense = ({kind.upper() for kind, _ in cases.values()} for cases in (EXACT, DENSE))
    folds = {kind for kind, fate in TYPES.items() if fate == FOLDED}
    assert folds - exact == TESTED_HERE | {"LORA"}
    both = {kind for kind in folds if kind != "LORA" and METHODS[kind].dense}
    assert {kind for kind, fate in TYPES.items() if fate == MEASURED} | both == dense - {"LORA"}


@pytest.mark.parametrize("kind", NO_UPDATE)
def test_what_is_no_fixed_update_is_refused_by_name(
    kind: str, make_adapter: Make, tiny_base: BaseModel
) -> None:
    with pytest.raises(RefusedError) as refused:
        folded(oracle.edit_config(make_adapter(), peft_type=kind), tiny_base)
    assert refused.value.code == "ZV001"
    assert re.search(f"{kind} .*({SAID[TYPES[kind][1]]})", refused.value.message)


def tasks(base: BaseModel, folder: Path) -> dict[str, torch.Tensor]:
    """PEFT's update of a Poly with one task, whose number goes with each input."""
    from peft.tuners.poly.layer import PolyLayer

    model: Any = peft.PeftModel.from_pretrained(load_model(base), folder).double().eval()
    found = {}
    layers: list[tuple[str, Any]] = [(n, m) for n, m in model.named_modules() if isinstance(m, PolyLayer)]
    for name, module in layers:
        unit = torch.eye(module.in_features, dtype=torch.float64)[None]
        with torch.no_grad():
            delta = module(unit, task_ids=torch.zeros(1, dtype=torch.long)) - module.base_layer(unit)
        found[name.removeprefix("base_model.model.")] = delta[0].T
    return found


@pytest.mark.parametrize("blocks", [1, 2])
def test_poly_of_one_task_is_folded_and_of_several_refused(
    blocks: int, tiny_base: BaseModel, tmp_path: Path
) -> None:
    settings = {"r": 4, "n_tasks": 1, "n_skills": 3, "n_splits": blocks}
    source = build(tiny_base, tmp_path / "source", "Poly", settings)
    wanted = tasks(tiny_base, source)
    assert oracle.worst(updates(folded(source, tiny_base)), wanted) < 1e-6

    def turned(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: -tensor if "logits" in name else tensor for name, tensor in weights.items()}

    assert oracle.worst(updates(folded(oracle.edit_weights(source, turned), tiny_base)), wanted) > 0.01
    with pytest.raises(RefusedError, match="task number that comes with each input") as refused:
        folded(oracle.edit_config(source, n_tasks=2), tiny_base)
    assert refused.value.code == "ZV001"


class Clusters:
    """A stand-in for scikit-learn's KMeans, which PEFT and zoo both call: rows by their first coordinate."""

    def __init__(self, *, n_clusters: int, **_rest: Any) -> None:
        self.count = n_clusters

    def fit_predict(self, rows: Any) -> Any:
        return (np.argsort(np.argsort(rows[:, 0])) % self.count).astype("int32")


@pytest.fixture
def clustering(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("sklearn.cluster")
    module.KMeans = Clusters
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.cluster", module)


@pytest.fixture
def adamss(clustering: None, tiny_base: BaseModel, tmp_path: Path) -> Path:
    settings = {"r": 8, "num_subspaces": 3, "subspace_rank": 2, "random_seed": 5}
    return build(tiny_base, tmp_path / "source", "Adamss", settings)


def test_adamss_is_folded_to_what_peft_computes(adamss: Path, tiny_base: BaseModel) -> None:
    wanted = oracle.deltas(tiny_base, adamss)
    result = folded(adamss, tiny_base)
    assert result.rank == 8
    assert oracle.worst(updates(result), wanted) < 1e-6
    (said,) = read_checkpoint(Source.open(adamss), tiny_base).warnings
    assert "another release of scikit-learn" in said

    def swapped(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {
            name.replace("A.0", "#").replace("A.1", "A.0").replace("#", "A.1"): t
            for name, t in weights.items()
        }

    assert oracle.worst(updates(folded(oracle.edit_weights(adamss, swapped), tiny_base)), wanted) > 0.01


@pytest.mark.parametrize(
    ("change", "said"),
    [({"random_seed": 6}, "the projection"), ({"num_subspaces": 4}, "the number of clusters")],
)
def test_adamss_of_other_clusters_is_refused(
    change: dict[str, Any], said: str, adamss: Path, tiny_base: BaseModel
) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        folded(oracle.edit_config(adamss, **change), tiny_base)
    assert refused.value.code == "ZV025"


def test_adamss_without_scikit_learn_says_what_to_install(
    adamss: Path, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(MissingExtraError, match="scikit-learn"):
        folded(adamss, tiny_base)


def test_psoft_of_random_projections_is_as_near_peft_as_peft_is_to_itself(
    tiny_base: BaseModel, tmp_path: Path
) -> None:
    """Its randomised decomposition in float32 depends on where a weight lies in memory."""
    settings = {"r": 4, "psoft_svd": "lowrank", "psoft_svd_lowrank_niter": 4}
    source = build(tiny_base, tmp_path / "source", "Psoft", settings)
    wanted = oracle.deltas(tiny_base, source)
    moved = load_model(tiny_base)
    for parameter in moved.parameters():
        parameter.data = parameter.data.clone()
    again = oracle.deltas(tiny_base, source, model=moved)
    found = updates(folded(source, tiny_base))
    assert oracle.worst(found, wanted) < max(4 * oracle.worst(again, wanted), 1e-6) < 1e-4
    other = updates(folded(oracle.edit_config(source, random_seed=1), tiny_base))
    assert oracle.worst(other, wanted) > 1e-3


def test_osf_with_nothing_left_to_train_adds_nothing(tiny_base: BaseModel, tmp_path: Path) -> None:
    source = build(tiny_base, tmp_path / "source", "OSF", {"effective_rank": 28})
    found = updates(folded(source, tiny_base))
    empty = {path for path, update in found.items() if not update.any()}
    assert empty == {path for path in found if path.endswith("k_proj")}  # of rank 16 in all


@pytest.mark.parametrize("kind", ["Glora", "Road"])
def test_a_method_that_changes_biases_is_refused(kind: str, tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from zoo.models import resolve

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "vocab_size": 64,
    }
    Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2)).save_pretrained(
        tmp_path / "base"
    )
    base = resolve(str(tmp_path / "base"))
    extra = {"group_size": 8} if kind == "Road" else {}
    source = build(base, tmp_path / "source", kind, {"target_modules": ["q_proj"], **extra})
    with pytest.raises(RefusedError) as refused:
        folded(source, base, max_error=0.5)
    assert refused.value.code == "ZV011"
    source = build(base, tmp_path / "without", kind, {"target_modules": ["o_proj"], **extra})
    result = folded(source, base, max_error=0.5)
    assert oracle.worst(updates(result), oracle.deltas(base, source)) <= 0.5


@pytest.mark.parametrize("change", [{"target_modules": ".*_proj"}, {"layers_to_transform": [0]}])
def test_unilora_that_names_no_modules_is_refused(
    change: dict[str, Any], tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT["unilora from its seed"])
    with pytest.raises(RefusedError) as refused:
        folded(oracle.edit_config(source, **change), tiny_base)
    assert refused.value.code == "ZV025"


def test_super_tuning_without_places_over_equal_weights_is_refused(
    tmp_path: Path, tiny_base: BaseModel
) -> None:
    from safetensors.torch import load_file, save_file

    source = build(tiny_base, tmp_path / "source", *DENSE["super-tuning by magnitude"])
    (tmp_path / "base").mkdir()
    for file in tiny_base.folder.iterdir():
        (tmp_path / "base" / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "base" / "model.safetensors")
    save_file({n: t.bfloat16().sign() for n, t in weights.items()}, tmp_path / "base" / "model.safetensors")
    rounded = BaseModel(id="rounded", revision="", folder=tmp_path / "base")
    with pytest.raises(RefusedError) as refused:
        folded(source, rounded, max_error=0.5)
    assert refused.value.code == "ZV025"


def test_tensors_that_modules_share_have_to_be_those_of_its_modules(
    tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = build(tiny_base, tmp_path / "source", *EXACT["tinylora"])
    renamed = oracle.edit_weights(
        source, lambda w: {n.replace("tinylora_v.3", "tinylora_v.9"): t for n, t in w.items()}
    )
    with pytest.raises(RefusedError) as refused:
        folded(renamed, tiny_base)
    assert refused.value.code == "ZV016"


@pytest.mark.parametrize(
    ("bare", "parts", "found"),
    [
        ("m.q_proj.hra_u", ("hra_u",), ("m.q_proj", "hra_u")),
        ("m.q_proj.hra_u.default", ("hra_u",), ("m.q_proj", "hra_u")),
        ("m.q_proj.adamss_A.11", ("adamss_A.#",), ("m.q_proj", "adamss_A.11")),
        ("m.q_proj.adamss_A", ("adamss_A.#",), ("", "")),
        ("vera_A", ("vera_A",), ("", "vera_A")),
        ("m.layers.0", ("hra_u",), ("", "")),
        ("m.xhra_u", ("hra_u",), ("", "")),
    ],
)
def test_a_tensor_name_is_split(bare: str, parts: tuple[str, ...], found: tuple[str, str]) -> None:
    assert _split(bare, parts) == found


def test_no_method_is_tested_on_fewer_modules_than_it_adapts() -> None:
    assert all(settings.get("target_modules", TARGETS) == TARGETS for _, settings in (EXACT | DENSE).values())
