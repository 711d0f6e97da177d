"""Records of measured figures, in tests/evidence/<topic>.json: one list a topic, one record an id.

Only scripts write here, never people. A figure that missed its bar stays, with the reason in `note`.
"""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zoo.provenance import package_versions
from zoo.staging import write_file

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "evidence"
PACKAGES = (
    "alora-zoo",
    "torch",
    "transformers",
    "peft",
    "huggingface_hub",
    "tokenizers",
    "pydantic",
    "typer",
)


def record(
    topic: str,
    id: str,
    figure: str,
    value: Any,
    bar: str,
    met: bool,
    ratio_of: str,
    command: str,
    note: str = "",
) -> None:
    """Puts one figure into its topic's file, in place of an older one with the same id.

    Args:
        topic: the file's name without suffix.
        id: such as `main-3`.
        figure: one sentence: what was measured, with its unit.
        value: a number, or numbers by name.
        bar: what it had to reach.
        met: whether it did, computed by the caller from `value`.
        ratio_of: what it was compared with in the same run.
        command: runs the measurement again, from the project's root.
        note: why a bar was missed; conditions worth knowing.
    """
    entry = {
        "id": id,
        "figure": figure,
        "value": value,
        "bar": bar,
        "met": bool(met),
        "ratio_of": ratio_of,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **package_versions(PACKAGES)},
        "commit": commit(),
        **({"note": note} if note else {}),
    }
    path = FOLDER / f"{topic}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    merged = {old["id"]: old for old in known} | {id: entry}
    FOLDER.mkdir(exist_ok=True)
    ordered = [merged[key] for key in sorted(merged, key=_by_number)]
    write_file(path, (json.dumps(ordered, indent=2, ensure_ascii=False) + "\n").encode())
    print(
        f"{id}: {'met' if met else 'NOT MET'}  {json.dumps(value, ensure_ascii=False)}  (bar: {bar})",
        flush=True,
    )


def machine() -> str:
    """The processor's model and the cores this process may use; the GPU's model where there is one."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        named = (line for line in cpuinfo.read_text().splitlines() if line.startswith("model name"))
        model = next(named, f": {model}").partition(":")[2].strip()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores{_gpu()}"


def commit() -> str:
    """The commit that was measured, with `+` when the tree had changes.

    Outside a checkout it is what `EVIDENCE_COMMIT` says: a borrowed machine may have the files only.
    """
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("EVIDENCE_COMMIT", "")


def _gpu() -> str:
    import sys

    torch = sys.modules.get("torch")  # a measurement that ran on a GPU has imported it
    return f", {torch.cuda.get_device_name()}" if torch is not None and torch.cuda.is_available() else ""


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _by_number(id: str) -> tuple[str, int]:
    name, _, number = id.rpartition("-")
    return (name, int(number)) if number.isdigit() else (id, 0)
