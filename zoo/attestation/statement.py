"""The statement that is signed: which files a release consists of, and how they were made.

Its subjects are the payload, the lock and the bill of materials. The card is left out: the Hub lets people
edit it, every such edit would break the signature, and it says nothing that the lock does not hold.
Source: in-toto Attestation Framework, Statement v1; SLSA 1.0, provenance predicate v1.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.adapter import BOM_NAME, LOCK_NAME
from zoo.provenance import payload_digests, sha256_file
from zoo.specs.lock import Lock

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://github.com/alora-zoo/alora-zoo/release/v1"
BUILDER = "https://github.com/alora-zoo/alora-zoo"


def signed_digests(folder: Path) -> dict[str, str]:
    """The sha256 of every file that a signature covers, by path, sorted.

    Raises:
        OSError: a file cannot be read.
    """
    more = {name: sha256_file(folder / name) for name in (LOCK_NAME, BOM_NAME) if (folder / name).is_file()}
    return dict(sorted({**payload_digests(folder), **more}.items()))


def statement(folder: Path, lock: Lock) -> dict[str, Any]:
    """The statement about a release folder as it is.

    Args:
        folder: with its lock written.
        lock: that lock.
    """
    subjects = [{"name": name, "digest": {"sha256": sha}} for name, sha in signed_digests(folder).items()]
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": _parameters(lock),
                "internalParameters": {"versions": dict(lock.training.versions)} if lock.training else {},
                "resolvedDependencies": dependencies(lock),
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"alora-zoo": lock.zoo_version}}},
        },
    }


def subjects(statement: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of every file that a statement names, by path; what names none is left out."""
    found = {}
    for one in statement["subject"]:
        match one:
            case {"name": str(name), "digest": {"sha256": str(sha256)}}:
                found[name] = sha256
            case _:
                pass  # what it names is then missing among the signed files
    return found


def dependencies(lock: Lock) -> list[dict[str, Any]]:
    """What a release was made of: base model, source checkpoint, data; each with its digest.

    Source: SLSA 1.0, ResourceDescriptor.
    """
    base = lock.base
    named: dict[str, Any] = {"name": base.id, "annotations": {"tokenizer.json": base.tokenizer_sha256}}
    if base.revision:
        named |= {"uri": f"pkg:huggingface/{base.id}@{base.revision}", "digest": {"gitCommit": base.revision}}
    elif base.weights_sha256:
        named["digest"] = {"sha256": base.weights_sha256}
    found = [named]
    if lock.conversion:
        found += [
            {"name": name, "digest": {"sha256": sha}}
            for name, sha in sorted(lock.conversion.source_files.items())
        ]
    data = {
        "training data": lock.training.data_sha256 if lock.training else None,
        "evaluation data": lock.behaviour.data_sha256,
    }
    found += [{"name": name, "digest": {"sha256": sha}} for name, sha in data.items() if sha]
    return found


def dump_statement(content: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: JSON, the same for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _parameters(lock: Lock) -> dict[str, Any]:
    """What decided over the weights, as the lock records it."""
    found: dict[str, Any] = {}
    if lock.conversion:
        found["conversion"] = {
            "source_format": lock.conversion.source_format,
            "steps": list(lock.conversion.steps),
        }
    if lock.training:
        found["training"] = lock.training.model_dump(
            mode="json", include={"method", "samples", "steps", "seed", "settings"}
        )
    return found
