"""Writes a release folder, byte-stable for the same input: PEFT's two files, `zoo.yaml`, `zoo.lock.json`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import __version__
from zoo.adapter import LOCK_NAME, RELEASE_NAME, WEIGHTS_NAME
from zoo.converters.weights_file import write_weights
from zoo.layouts import CONFIG_NAME
from zoo.models import BaseModel
from zoo.provenance import package_versions, payload_digests
from zoo.specs.lock import BehaviourRecord, ConversionRecord, Lock, TrainingRecord, dump_lock
from zoo.specs.release import ReleaseSpec, dump_release

if TYPE_CHECKING:
    from torch import Tensor


def write_release(
    stage: Path,
    *,
    weights: Mapping[str, "Tensor"],
    rank: int,
    targets: Sequence[str],
    spec: ReleaseSpec,
    base: BaseModel,
    invocation_ids: Sequence[int],
    conversion: Callable[[], ConversionRecord] | None = None,
    training: TrainingRecord | None = None,
    behaviour: BehaviourRecord | None = None,
) -> None:
    """Writes the four files of a release into an empty folder.

    Args:
        stage: an existing folder, usually from `zoo.staging.staged_folder`.
        weights: by PEFT file key, in normal form: `[rank, in]` and `[out, rank]`, scale 1.
        rank: `r` and `lora_alpha`.
        targets: `target_modules`.
        spec: the `zoo.yaml`.
        base: the base model that the lock pins.
        invocation_ids: `alora_invocation_tokens`.
        conversion: says how the weights were converted, if they were; asked when they are written.
        training: how they were trained, if they were.
        behaviour: what was measured; unverified when None.

    Raises:
        OSError: the folder cannot be written.
    """
    config = adapter_config(rank=rank, targets=targets, base=base, invocation_ids=invocation_ids)
    (stage / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    digest = write_weights(stage / WEIGHTS_NAME, weights)
    (stage / RELEASE_NAME).write_text(dump_release(spec), encoding="utf-8")
    lock = Lock(
        zoo_version=__version__,
        files=payload_digests(stage, known={WEIGHTS_NAME: digest}),
        base=base.lock(),
        conversion=conversion() if conversion else None,
        training=training,
        behaviour=behaviour or BehaviourRecord(),
    )
    (stage / LOCK_NAME).write_text(dump_lock(lock), encoding="utf-8")


def adapter_config(
    *, rank: int, targets: Sequence[str], base: BaseModel, invocation_ids: Sequence[int]
) -> dict[str, Any]:
    """An aLoRA's `adapter_config.json` in normal form, with the keys that PEFT 0.18 knows and no others.

    Args:
        rank: `r` and `lora_alpha`, so that the scale is 1.
        targets: `target_modules`.
        base: named in the config by Hub id and commit.
        invocation_ids: `alora_invocation_tokens`.
    """
    return {
        "alora_invocation_tokens": list(invocation_ids),
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": base.id,
        "bias": "none",
        "exclude_modules": None,
        "fan_in_fan_out": base.config.get("model_type") == "gpt2",  # its Conv1D stores weights transposed
        "inference_mode": True,
        "init_lora_weights": True,
        "layer_replication": None,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": rank,
        "lora_bias": False,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "peft_version": package_versions(["peft"]).get("peft", "0.18.0"),
        "r": rank,
        "rank_pattern": {},
        "revision": base.revision or None,
        "target_modules": sorted(targets),
        "target_parameters": None,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": None,
        "use_dora": False,
        "use_qalora": False,
        "use_rslora": False,
    }
