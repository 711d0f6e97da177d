"""Base weights read piece by piece: from shards of a folder and, by range requests, from a Hub."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.converters.conftest import REPO
from tests.converters.test_extract import tune
from tests.hub.faults import Fault
from tests.hub.server import HubServer
from zoo.conversion import convert
from zoo.converters.base_weights import LocalShard, RemoteShard, open_base_weights
from zoo.converters.module_weights import ModuleWeights
from zoo.errors import BaseMissingError, HubError, NotFoundError, RefusedError
from zoo.models import BaseModel

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        f"model.layers.{i}.w.weight": torch.randn(7, 5, generator=generator).to(dtype)
        for i, dtype in enumerate(DTYPES)
    }
    return {**made, "packed.weight": torch.zeros(2, 3, dtype=torch.int8), "norm.weight": torch.ones(5)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint in two shards."""
    names = sorted(tensors())
    for number, half in enumerate((names[:3], names[3:]), start=1):
        shard = tmp_path / "model" / f"model-0000{number}-of-00002.safetensors"
        shard.parent.mkdir(exist_ok=True)
        save_file({name: tensors()[name] for name in half}, shard)
    return tmp_path / "model"


def upload(hub: HubServer, folder: Path) -> str:
    commit: str = hub.store.commit(REPO, {path.name: path.read_bytes() for path in folder.iterdir()})
    return commit


def test_every_tensor_is_the_one_that_was_saved(folder: Path) -> None:
    weights = open_base_weights(str(folder))
    for name, wanted in tensors().items():
        if wanted.dtype is torch.int8:
            with pytest.raises(RefusedError, match="I8") as caught:
                weights.tensor(name)
            assert caught.value.code == "ZV050"
            continue
        found = weights.tensor(name)
        assert (found.dtype, weights.shape(name)) == (wanted.dtype, tuple(wanted.shape))
        assert torch.equal(found, wanted)
        if wanted.ndim == 2:
            blocks = list(weights.rows(name, count=3))
            assert [(first, len(block)) for first, block in blocks] == [(0, 3), (3, 3), (6, 1)]
            assert torch.equal(torch.cat([block for _, block in blocks]), wanted)


def test_the_next_module_is_read_while_one_is_worked_on(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[int, str]] = []
    whole = LocalShard.read

    def told(shard: LocalShard, begin: int, end: int) -> memoryview:
        read.append((begin, threading.current_thread().name.partition("_")[0]))
        return whole(shard, begin, end)

    monkeypatch.setattr(LocalShard, "read", told)
    paths = [f"model.layers.{layer}.self_attn.q_proj" for layer in range(2)]
    weights, plain = ModuleWeights(base=tiny_base, order=paths), ModuleWeights(base=tiny_base)
    for path in [*paths, paths[0]]:
        assert torch.equal(weights.load(path), plain.load(path))
    begins = [open_base_weights(tiny_base).places[f"{path}.weight"][1].begin for path in paths]
    ahead = [begin for begin, thread in read if thread == "base-weights"]
    assert ahead == [begins[1], begins[1]]  # after the first one, each time
    assert len(read) == 3 + 3 + 1  # nothing twice but what was asked for again, and one for nobody


def test_from_the_hub_only_what_is_asked_for_is_fetched(hub: HubServer, folder: Path) -> None:
    commit = upload(hub, folder)
    weights = open_base_weights(REPO)
    assert weights.revision == commit
    assert all(isinstance(shard, RemoteShard) for shard in weights.shards)
    name, wanted = next(iter(tensors().items()))
    assert torch.equal(weights.tensor(name), wanted)
    served = [one for one in hub.requests.matching("GET", ".*safetensors") if one.status is not None]
    assert {one.status for one in served} == {206}  # parts, never a whole file
    assert len(served) == 2 * 2 + 1  # two headers in two parts each, and one tensor
    second = list(weights.rows(name, count=4))
    assert torch.equal(torch.cat([block for _, block in second]), wanted)
    assert not list(Path(folder.parent / "home").rglob("*.safetensors"))


def test_a_shard_in_the_cache_is_not_fetched_again(hub: HubServer, folder: Path) -> None:
    from zoo.hub import download_base

    (folder / "config.json").write_text("{}")
    commit = upload(hub, folder)
    download_base(REPO, commit)
    hub.requests.clear()
    weights = open_base_weights(f"{REPO}@{commit}")
    name, wanted = next(iter(tensors().items()))
    assert torch.equal(weights.tensor(name), wanted)
    assert not hub.requests.matching("GET", ".*safetensors")


def test_a_hub_that_stops_answering_is_said(hub: HubServer, folder: Path) -> None:
    upload(hub, folder)
    weights = open_base_weights(REPO)
    assert weights.places
    hub.faults.add(Fault(status=404, path=".*safetensors", times=None))
    with pytest.raises((HubError, NotFoundError)):
        weights.tensor(next(iter(tensors())))


def test_what_is_no_model(tmp_path: Path, folder: Path, hub: HubServer) -> None:
    with pytest.raises(NotFoundError):
        open_base_weights("no/such/thing")
    with pytest.raises(NotFoundError):
        open_base_weights("org/absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseMissingError):
        open_base_weights(str(tmp_path / "empty"))
    with pytest.raises(BaseMissingError, match="no safetensors"):
        open_base_weights(REPO)
    with pytest.raises(RefusedError):
        open_base_weights(str(folder)).tensor("absent.weight")


def test_a_damaged_header_is_refused(hub: HubServer, folder: Path) -> None:
    hub.store.commit(REPO, {"model.safetensors": b"\xff" * 64})
    with pytest.raises(RefusedError) as caught:
        _ = open_base_weights(REPO).places
    assert caught.value.code == "ZF003"


def test_a_file_that_becomes_shorter_is_no_endless_loop(folder: Path) -> None:
    weights = open_base_weights(str(folder))
    assert weights.places
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BaseMissingError, match="shorter"):
        [weights.tensor(name) for name in tensors() if name != "packed.weight"]


def test_a_resolved_base_is_opened_where_it_is(tiny_base: BaseModel) -> None:
    weights = open_base_weights(tiny_base)
    assert weights.id == tiny_base.id
    assert set(weights.places) == set(tiny_base.tensors)


MEASURE = """
import resource, sys
from zoo.conversion import convert
from zoo.converters.base_weights import open_base_weights
weights = open_base_weights(sys.argv[1])
import torch
weights.tensor("model.layers.0.w.weight")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = 0.0
for name in sorted(weights.places):
    for first, block in weights.rows(name, count=512):
        total += float(block[0, 0])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_is_that_of_one_piece_not_of_the_model(tmp_path: Path) -> None:
    """256 MiB of weights in four shards of four tensors; what a pass adds is a few blocks of 2 MiB."""
    for shard in range(4):
        save_file(
            {f"model.layers.{4 * shard + i}.w.weight": torch.ones(4096, 1024) for i in range(4)},
            tmp_path / f"model-0000{shard + 1}-of-00004.safetensors",
        )
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 24


@pytest.mark.parametrize("kind", ["plain", "HRA", "fine-tune"])
def test_a_conversion_over_a_base_on_the_hub_downloads_no_weight_file(
    kind: str, hub: HubServer, tiny_base: BaseModel, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    commit = upload(hub, tiny_base.folder)
    options: dict[str, Any] = {"invocation_text": "<|im_start|>check\n"}
    if kind == "fine-tune":
        source, options["extract"] = tmp_path / "tuned", 2
        tune(tiny_base, source, 2)
    else:
        source = make_adapter() if kind == "plain" else _hra(tiny_base, tmp_path / "hra")
    here = convert(source, tmp_path / "here", base=tiny_base, **options)
    hub.requests.clear()
    there = convert(source, tmp_path / "there", base=REPO, **options)
    assert there.plan.base.revision == commit
    name = "adapter_model.safetensors"
    assert (there.folder / name).read_bytes() == (here.folder / name).read_bytes()
    served = hub.requests.matching("GET", ".*safetensors")
    assert {one.status for one in served} == {206}
    assert not list((tmp_path / "home").rglob("*.safetensors"))
    # a plain LoRA needs shapes alone: the header's two parts; the others also weights
    assert (len(served) == 2) is (kind == "plain")


def _hra(base: BaseModel, folder: Path) -> Path:
    """An adapter whose update depends on the base weight."""
    from peft import HRAConfig, get_peft_model

    from zoo.models import load_model

    model = get_peft_model(load_model(base), HRAConfig(r=4, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "hra_u" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    model.save_pretrained(str(folder))
    return folder
