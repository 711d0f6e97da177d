"""A converted `alora` 0.x adapter acts behind its text's first token; ZI003 knows that of it alone."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.conftest import INVOCATION_TEXT
from zoo.conversion import convert
from zoo.models import BaseModel
from zoo.report import Flagged, Outcome, Passed
from zoo.validators.validate import validate


def outcome(folder: Path, base: BaseModel, code: str) -> Outcome:
    report = validate(folder, base=str(base.folder), static=True)
    return next(result.outcome for result in report.results if result.code == code)


def test_ids_without_the_first_are_right_after_a_legacy_conversion_only(
    make_adapter: Callable[..., Path], tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = make_adapter("legacy")
    path = source / "adapter_config.json"
    config = json.loads(path.read_text())
    del config["alora_invocation_tokens"]
    path.write_text(json.dumps(config | {"invocation_string": INVOCATION_TEXT}))
    release = convert(source, tmp_path / "out", base=str(tiny_base.folder)).folder

    assert isinstance(outcome(release, tiny_base, "ZI003"), Passed)

    lock = json.loads((release / "zoo.lock.json").read_text())
    lock["conversion"]["source_format"] = "peft"
    (release / "zoo.lock.json").write_text(json.dumps(lock))
    assert isinstance(outcome(release, tiny_base, "ZI003"), Flagged)
