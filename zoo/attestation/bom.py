"""A CycloneDX bill of materials of a release: the adapter, its files, its base, its data.

Built by hand: cyclonedx-python-lib 11.12 has no class for the `modelCard` of CycloneDX 1.5 and later. The
tests hold what comes out against that library's strict schema. Time and random numbers are left out, so that
the same release gives the same bytes.
Source: CycloneDX 1.6, JSON schema (ECMA-424), machine-learning bill of materials.
"""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.adapter import BOM_NAME, LOCK_NAME
from zoo.limits import few_values
from zoo.provenance import payload_digests, sha256_file
from zoo.specs.document import MAX_VALUES
from zoo.specs.lock import BehaviourRecord, Lock
from zoo.specs.release import ReleaseSpec

_NAMESPACE = uuid.UUID("6f0e5f0a-6f0b-5c8e-9d57-3f1a0d3f7b11")  # of zoo's serial numbers


def bill(folder: Path, lock: Lock, spec: ReleaseSpec, *, hub_id: str = "") -> dict[str, Any]:
    """The bill of materials of a release folder.

    Args:
        folder: whose files are named, its lock among them.
        lock: what is written there.
        spec: its `zoo.yaml`.
        hub_id: `org/name[/folder]` it is published as; empty for a local folder.
    """
    files = payload_and_lock(folder)
    adapter = f"{spec.name}@{spec.version}"
    base = _base(lock)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, files[LOCK_NAME])}",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "alora-zoo", "version": lock.zoo_version}]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": adapter,
                "name": hub_id or spec.name,
                "version": spec.version,
                "description": spec.description,
                "licenses": [{"expression": _spdx(spec.license)}],
                "modelCard": _model_card(lock, spec),
            },
        },
        "components": [base, *_files(files)],
        "dependencies": [
            {"ref": adapter, "dependsOn": [base["bom-ref"]]},
            {"ref": base["bom-ref"], "dependsOn": []},
        ],
    }


def dump_bill(content: dict[str, Any]) -> bytes:
    """The file's bytes, the same for the same content."""
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_bill(folder: Path, lock: Lock, spec: ReleaseSpec, *, hub_id: str = "") -> None:
    """Writes the bill of materials into a release that is being made."""
    (folder / BOM_NAME).write_bytes(dump_bill(bill(folder, lock, spec, hub_id=hub_id)))


def billed(raw: bytes) -> dict[str, Any]:
    """What a bill of materials says, whichever zoo wrote it in whatever form; of what is no bill, nothing.

    Returns:
        `files`, the sha256 of each by path; `models`, name, version and digests of what it was made of; and
        `release`, its name, version and licences.
    """
    try:
        few_values(raw, MAX_VALUES)
        found = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    match found:
        case {"metadata": {"component": dict(release)}, "components": [*components]}:
            models = [one for one in components if _is_model(one)]
            return {
                "files": dict(one for component in components if (one := _file(component))),
                "models": [{key: one.get(key) for key in ("name", "version", "hashes")} for one in models],
                "release": {key: release.get(key) for key in ("name", "version", "licenses")},
            }
        case _:
            return {}


def payload_and_lock(folder: Path) -> dict[str, str]:
    """The sha256 of every file that a bill of materials of a folder names, by path."""
    return {**payload_digests(folder), LOCK_NAME: sha256_file(folder / LOCK_NAME)}


def _file(component: object) -> tuple[str, str] | None:
    match component:
        case {"type": "file", "name": str(name), "hashes": [{"alg": "SHA-256", "content": str(sha256)}]}:
            return name, sha256
        case _:
            return None


def _is_model(component: object) -> bool:
    return isinstance(component, dict) and component.get("type") == "machine-learning-model"


def _base(lock: Lock) -> dict[str, Any]:
    base = lock.base
    found: dict[str, Any] = {"type": "machine-learning-model", "bom-ref": base.id, "name": base.id}
    if base.revision:
        found |= {
            "bom-ref": f"{base.id}@{base.revision}",
            "version": base.revision,
            "purl": f"pkg:huggingface/{base.id}@{base.revision}",
        }
    if base.weights_sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": base.weights_sha256}]
    return found


def _files(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": sha256}]}
        for name, sha256 in sorted(digests.items())
    ]


def _model_card(lock: Lock, spec: ReleaseSpec) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "task": "text-generation",
        "modelArchitecture": "activated LoRA (arXiv 2504.12397)",
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text"}],
    }
    if spec.training_data:
        parameters["datasets"] = [{"type": "dataset", "name": line} for line in spec.training_data]
    if lock.training:
        parameters["approach"] = {"type": "supervised"}
    card: dict[str, Any] = {"modelParameters": parameters}
    if lock.behaviour.status == "measured":
        card["quantitativeAnalysis"] = {"performanceMetrics": _metrics(lock.behaviour)}
    return card


def _metrics(behaviour: BehaviourRecord) -> list[dict[str, str]]:
    shares = {"accuracy": behaviour.accuracy, "agreement": behaviour.agreement}
    return [
        {"type": kind, "value": str(value), "slice": f"{column}, {behaviour.samples} held-out samples"}
        for kind, columns in shares.items()
        for column, value in sorted(columns.items())
    ]


def _spdx(license_id: str) -> str:
    """An SPDX expression from the Hub's spelling of a licence, which is SPDX's in lower case."""
    return _SPDX.get(license_id, f"LicenseRef-{license_id}")


# The identifiers that the Hub offers and SPDX has, in SPDX's spelling (SPDX licence list 3.27).
_SPDX = {
    name.lower(): name
    for name in (
        "AFL-3.0", "AGPL-3.0-only", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause",
        "BSD-3-Clause-Clear", "BSL-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-NC-4.0",
        "CC-BY-NC-ND-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC0-1.0",
        "CDLA-Permissive-2.0", "ECL-2.0", "EPL-2.0", "EUPL-1.2", "GPL-2.0-only", "GPL-3.0-only", "ISC",
        "LGPL-2.1-only", "LGPL-3.0-only", "MIT", "MPL-2.0", "MS-PL", "NCSA", "OFL-1.1", "PostgreSQL",
        "Unlicense", "WTFPL", "Zlib",
    )
}  # fmt: skip
_SPDX |= {"agpl-3.0": "AGPL-3.0-only", "gpl-2.0": "GPL-2.0-only", "gpl-3.0": "GPL-3.0-only",
          "lgpl-2.1": "LGPL-2.1-only", "lgpl-3.0": "LGPL-3.0-only"}  # fmt: skip
