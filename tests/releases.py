"""Small releases, complete and always the same, made without torch; and reports about them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.conftest import INVOCATION_TEXT
from zoo.provenance import folder_digest, payload_digests
from zoo.render.json import to_document
from zoo.report import Finding, Flagged, NotApplicable, Outcome, Passed, Report, Result, Severity, Skipped
from zoo.specs.comparison import BoundaryPoint, Comparison, Estimate, LengthBin
from zoo.specs.lock import BaseLock, BehaviourRecord, ConversionRecord, Lock, TrainingRecord, dump_lock
from zoo.specs.release import BaseRef, GatePolicy, InvocationSpec, Message, ReleaseSpec, dump_release

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IDS = [1, 5875, 198]
ENVIRONMENT = {
    "python": "3.11.0",
    "device": "cpu",
    "dtype": "float32",
    "alora-zoo": "0.1.0",
    "torch": "2.13.0",
}
REMARK = Finding(message="a | pipe", severity=Severity.WARNING)
OUTCOMES: Sequence[tuple[str, str, Outcome]] = (
    ("ZF001", "Only files of a release are there", Passed()),
    (
        "ZC001",
        "The config is read",
        Flagged(findings=[Finding(message="a | pipe", severity=Severity.WARNING)]),
    ),
    ("ZK001", "Prefix KV is the base's", Passed(measured={"layers": 2, "max_abs_difference": 0.0})),
    ("ZR001", "PEFT computes the reference", Passed(measured={"tolerance": 0.0001, "difference": 1.234e-6})),
    ("ZE001", "The I/O contract holds", NotApplicable(reason="there is no io.yaml")),
    ("ZB001", "Its answers were measured", Passed(measured={"samples": 120})),
)
MEASURED = BehaviourRecord(
    status="measured",
    data_sha256="d" * 64,
    samples=120,
    agreement={"relabelled": 0.55, "recovered": 0.975},
    accuracy={"base": 0.5, "lora": 0.95, "relabelled": 0.525, "recovered": 0.9416666},
    trivial=0.5083333,
)


def _estimate(value: float, spread: float = 0.03) -> Estimate:
    return Estimate(value=value, low=value - spread, high=value + spread)


COMPARISON = Comparison(
    metric="accuracy",
    margin=0.05,
    scores={name: _estimate(value) for name, value in MEASURED.accuracy.items()},
    agreement={
        name: _estimate(value)
        for name, value in {"base": 0.5, "lora": 1.0, "relabelled": 0.55, "recovered": 0.975}.items()
    },
    differences={
        "recovered-lora": _estimate(-0.0083334),
        "recovered-relabelled": _estimate(0.4166666),
        "recovered-base": _estimate(0.4416666),
    },
    lengths=[
        LengthBin(
            shortest=12,
            longest=1700,
            samples=120,
            scores=MEASURED.accuracy,
            agreement={"base": 0.5, "lora": 1.0, "relabelled": 0.55, "recovered": 0.975},
            difference=_estimate(-0.0083334),
        )
    ],
    boundary=[
        BoundaryPoint(weights="lora", start="the whole prompt", samples=64, score=0.95, agreement=1.0),
        BoundaryPoint(weights="lora", start="the invocation", samples=64, score=0.53, agreement=0.55),
        BoundaryPoint(weights="recovered", start="the invocation", samples=64, score=0.94, agreement=0.97),
    ],
    stopped="at step 45 of 100, no closer in 6 looks at unseen prompts; step 15 was kept",
    verdict="equivalent",
    reason="accuracy differs from the LoRA's by -0.008 [-0.038, +0.022]: less than 0.05 is lost",
)


def write_release(
    folder: Path,
    *,
    version: str = "0.1.0",
    seed: int = 0,
    behaviour: BehaviourRecord = MEASURED,
    made: bool = True,
    files: dict[str, bytes] | None = None,
    base: BaseRef | None = None,
    **spec: Any,
) -> Path:
    """A release folder as conversion leaves it: no evidence, no card."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "tests/tiny-llama",
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["v_proj", "q_proj"],
        "alora_invocation_tokens": IDS,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    random = np.random.default_rng(seed)
    place = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{place}.lora_{side}.weight": random.standard_normal(shape).astype(np.float32)
        for side, shape in (("A", (4, 32)), ("B", (32, 4)))
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    wanted: dict[str, Any] = {
        "name": "relevance",
        "version": version,
        "base": base or BaseRef(id="tests/tiny-llama", revision=COMMIT),
        "invocation": InvocationSpec(text=INVOCATION_TEXT),
        "description": "Says whether a passage\nhelps to answer a question.\n\nAnswers yes or no.",
        "training_data": ["passages of an encyclopedia, questions by their readers"],
        "samples": [[Message(role="user", content='Does "it" help?\nYes | no')]],
    }
    (folder / "zoo.yaml").write_text(dump_release(ReleaseSpec(**(wanted | spec))))
    lock = Lock(
        zoo_version="0.1.0",
        files=payload_digests(folder),
        base=BaseLock(
            id=wanted["base"].id,
            revision=wanted["base"].revision,
            tokenizer_sha256="a" * 64,
            chat_template_sha256="b" * 64,
        ),
        conversion=CONVERSION if made else None,
        training=TRAINING if made else None,
        behaviour=behaviour,
    )
    (folder / "zoo.lock.json").write_text(dump_lock(lock))
    return folder


CONVERSION = ConversionRecord(
    source_format="peft",
    source_files={"adapter_model.safetensors": "c" * 64},
    steps=["scale 2 folded into B", "invocation ids set to [1, 5875, 198]"],
    fold_error=0.0,
)
TRAINING = TrainingRecord(
    method="distillation",
    data_sha256="d" * 64,
    samples=400,
    steps=100,
    seed=7,
    settings={"learning_rate": 0.0001, "batch": 8},
    final_loss=0.01234,
    versions={"torch": "2.13.0"},
)


def report_on(
    folder: Path,
    outcomes: Sequence[tuple[str, str, Outcome]] = OUTCOMES,
    *,
    allowed: GatePolicy | None = None,
    seconds: float = 1.5,
) -> Report:
    """A report about exactly the files of a folder, with made-up outcomes."""
    results = [Result(code=code, title=title, outcome=o, seconds=seconds) for code, title, o in outcomes]
    return Report(
        subject=str(folder),
        digest=folder_digest(payload_digests(folder)),
        results=results,
        environment=ENVIRONMENT,
        allowed_skips=allowed.allowed_skips if allowed else {},
    )


def skipped(code: str) -> Sequence[tuple[str, str, Outcome]]:
    """The usual outcomes, but one check was not done."""
    return [(c, t, Skipped(reason="no network") if c == code else o) for c, t, o in OUTCOMES]


def failed(code: str) -> Sequence[tuple[str, str, Outcome]]:
    """The usual outcomes, but one check said no."""
    no = Flagged(findings=[Finding(message="layer 1 differs by 0.5")])
    return [(c, t, no if c == code else o) for c, t, o in OUTCOMES]


def record_evidence(folder: Path, report: Report) -> None:
    """Writes a report into the folder's lock."""
    lock = json.loads((folder / "zoo.lock.json").read_text()) | {"evidence": to_document(report)}
    (folder / "zoo.lock.json").write_text(json.dumps(lock, indent=2, sort_keys=True))
