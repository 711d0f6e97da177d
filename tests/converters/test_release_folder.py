import json
from pathlib import Path

import pytest
import torch

from zoo.converters.release_folder import adapter_config, write_release
from zoo.models import BaseModel
from zoo.provenance import payload_digests
from zoo.specs.adapter_config import AdapterConfig
from zoo.specs.document import read_json, read_yaml
from zoo.specs.lock import BehaviourRecord, Lock, TrainingRecord
from zoo.specs.release import InvocationSpec, ReleaseSpec

DIGEST = "0" * 64


def write(
    folder: Path, base: BaseModel, *, training: TrainingRecord | None = None, flip: bool = False
) -> Path:
    folder.mkdir()
    spec = ReleaseSpec(
        name="check",
        base=base.reference(),
        invocation=InvocationSpec(text="<|im_start|>check\n"),
        license="mit",
    )
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    weights = {key.format("A"): torch.ones(4, 32), key.format("B"): torch.ones(32, 4)}
    write_release(
        folder,
        weights=dict(reversed(weights.items())) if flip else weights,
        rank=4,
        targets=["q_proj"],
        spec=spec,
        base=base,
        invocation_ids=[1, 2],
        training=training,
    )
    return folder


def test_the_four_files_and_their_contents(tiny_base: BaseModel, tmp_path: Path) -> None:
    training = TrainingRecord(
        method="supervised",
        data_sha256=DIGEST,
        samples=1,
        steps=1,
        seed=0,
        settings={},
        final_loss=0.5,
        versions={},
    )
    folder = write(tmp_path / "release", tiny_base, training=training)
    assert sorted(path.name for path in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "zoo.lock.json",
        "zoo.yaml",
    ]
    lock = read_json(folder / "zoo.lock.json", Lock)
    assert lock.files == payload_digests(folder)
    assert (lock.training, lock.conversion, lock.behaviour) == (training, None, BehaviourRecord())
    assert lock.base == tiny_base.lock()
    assert read_yaml(folder / "zoo.yaml", ReleaseSpec).license == "mit"
    config = read_json(folder / "adapter_config.json", AdapterConfig)
    assert (config.r, config.lora_alpha, config.alora_invocation_tokens) == (4, 4, [1, 2])
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_the_bytes_do_not_depend_on_the_order_of_the_weights(tiny_base: BaseModel, tmp_path: Path) -> None:
    first = write(tmp_path / "first", tiny_base)
    second = write(tmp_path / "second", tiny_base, flip=True)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_the_config_has_only_keys_that_peft_knows_and_agrees_with_its_defaults(tiny_base: BaseModel) -> None:
    from peft import LoraConfig

    written = adapter_config(rank=4, targets=["q_proj"], base=tiny_base, invocation_ids=[1])
    wanted = LoraConfig(
        r=4, lora_alpha=4, target_modules=["q_proj"], task_type="CAUSAL_LM", alora_invocation_tokens=[1]
    ).to_dict()
    assert not set(written) - set(wanted)
    differing = {
        key
        for key in written
        if json.dumps(written[key], default=list) != json.dumps(wanted[key], default=list)
    }
    assert differing <= {"base_model_name_or_path", "inference_mode", "peft_version", "revision"}


@pytest.mark.parametrize("left_out", ["use_dora", "alora_invocation_tokens"])
def test_the_config_is_sorted(left_out: str, tiny_base: BaseModel, tmp_path: Path) -> None:
    keys = list(json.loads((write(tmp_path / "release", tiny_base) / "adapter_config.json").read_text()))
    assert left_out in keys
    assert keys == sorted(keys)
