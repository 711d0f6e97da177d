"""A release in order, and what the static checks say about a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import INVOCATION_TEXT, build_adapter
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.provenance import payload_digests
from zoo.report import Report, Result
from zoo.specs.lock import BehaviourRecord, Lock, dump_lock
from zoo.specs.release import InvocationSpec, ReleaseSpec, dump_release
from zoo.validators.catalog import STATIC_CHECKS
from zoo.validators.check import Check
from zoo.validators.checks.evidence import EVIDENCE_CHECKS
from zoo.validators.engine import run_checks
from zoo.validators.validate import Settings, Validation

GOOD = BehaviourRecord(
    status="measured",
    data_sha256="0" * 64,
    samples=400,
    agreement={"relabelled": 0.71, "recovered": 0.98},
    accuracy={"base": 0.52, "lora": 0.97, "relabelled": 0.7, "recovered": 0.96},
    trivial=0.5,
)


def build_release(
    base: BaseModel, folder: Path, *, rank: int = 4, strength: float = 0.5, **settings: Any
) -> Path:
    """A release of an adapter that PEFT saved, in normal form unless `settings` for LoraConfig leave it."""
    ids = list(Prompter(base).encode(INVOCATION_TEXT))
    wanted = {"r": rank, "lora_alpha": rank, "alora_invocation_tokens": ids, **settings}
    build_adapter(base, folder, strength=strength, **wanted)
    spec = ReleaseSpec(name="check", base=base.reference(), invocation=InvocationSpec(text=INVOCATION_TEXT))
    (folder / "zoo.yaml").write_text(dump_release(spec))
    lock = Lock(zoo_version="0.1.0", files=payload_digests(folder), base=base.lock(), behaviour=GOOD)
    (folder / "zoo.lock.json").write_text(dump_lock(lock))
    return folder


def static_results(
    folder: Path,
    base: BaseModel | None,
    checks: Sequence[Check] = (*STATIC_CHECKS, *EVIDENCE_CHECKS),
    environments: Sequence[Path | str] = (),
) -> list[Result]:
    settings = Settings(
        base=str(base.folder) if base else "", static=True, tokenizer_envs=tuple(map(str, environments))
    )
    validation = Validation.open(folder, settings)
    return list(run_checks(validation.context, checks))


def static_report(folder: Path, base: BaseModel | None) -> Report:
    validation = Validation.open(folder, Settings(base=str(base.folder) if base else "", static=True))
    return validation.report(list(run_checks(validation.context, (*STATIC_CHECKS, *EVIDENCE_CHECKS))))
