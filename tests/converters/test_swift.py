"""ms-swift's own layout, which is not PEFT's: a folder for each adapter, and names without PEFT's prefix."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.converters import oracle
from tests.converters.test_readers import TIGHT, folded, respell, updates
from zoo.errors import RefusedError, SpecError
from zoo.models import BaseModel

Make = Callable[..., Path]


def swift(adapter: Path, root: Path) -> Path:
    """ms-swift's own layout: a folder an adapter, its config, names without a prefix; tuners/base.py."""
    shutil.copytree(adapter, root / "default")
    rename = respell(
        lambda name: name.removeprefix("base_model.model.").replace(".weight", ".default.weight")
    )
    oracle.edit_weights(root / "default", rename)
    path = root / "default" / "adapter_config.json"
    config = json.loads(path.read_text())
    del config["peft_type"]
    own = {"use_qa_lora": False, "use_merged_linear": False, "enable_lora": None, "lora_dtype": "bfloat16"}
    path.write_text(json.dumps({**config, "swift_type": "LORA", "model_key_mapping": None, **own}))
    (root / "configuration.json").write_text("{}")
    return root


@pytest.mark.parametrize("inside", ["", "default"])
def test_ms_swifts_own_layout_is_read(
    inside: str, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = oracle.edit_weights(make_adapter(lora_alpha=5), oracle.randomise)
    found = updates(folded(swift(source, tmp_path / "swift") / inside, tiny_base))
    assert oracle.worst(found, oracle.deltas(tiny_base, source)) < TIGHT


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"swift_type": "ADAPTER"}, "ZV001"),
        ({"use_qa_lora": True}, "ZV012"),
        ({"use_merged_linear": True}, "ZV012"),
    ],
)
def test_what_ms_swift_has_of_its_own_is_refused(
    config: dict[str, Any], code: str, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    root = swift(make_adapter(), tmp_path / "swift")
    with pytest.raises(RefusedError) as refused:
        folded(oracle.edit_config(root / "default", **config), tiny_base)
    assert refused.value.code == code


def test_states_that_ms_swift_saves_beside_its_adapters_are_refused(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    root = swift(make_adapter(), tmp_path / "swift")
    (root / "adapter_config.json").write_text(json.dumps({"extra_state_keys": ["score.weight"]}))
    (root / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(RefusedError) as refused:
        folded(root / "default", tiny_base)
    assert refused.value.code == "ZV003"
    with pytest.raises(SpecError) as unreadable:
        folded(root, tiny_base)
    assert unreadable.value.code == "ZC001"
