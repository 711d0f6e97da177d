import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import modules
from zoo.cli import COMMANDS
from zoo.validators.catalog import ALL_CHECKS

HEAVY = {
    "accelerate", "gguf", "huggingface_hub", "jinja2", "matplotlib", "numpy", "peft", "tokenizers",
    "torch", "transformers",
}  # fmt: skip
# Loaded wherever it is needed, but not by `import zoo.x`.
ALSO_LAZY = {"rich"}

RUN_ZOO = """
import json, sys
from zoo.cli import main
sys.argv = ["zoo", *sys.argv[1:]]
status = 0
try:
    status = main()
except SystemExit as stop:
    status = stop.code
print("\\n" + json.dumps([status or 0, sorted({name.partition(".")[0] for name in sys.modules})]))
"""

IMPORT_ALL = """
import importlib, json, sys
loaded = {}
for name in sys.argv[2:]:
    importlib.import_module(name)
    for heavy in set(sys.argv[1].split(",")) & set(sys.modules):
        loaded.setdefault(heavy, name)
print(json.dumps(loaded))
"""


def zoo_modules_after(arguments: list[str], cwd: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", RUN_ZOO, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    status, loaded = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stdout
    return set(loaded)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["explain", ALL_CHECKS[0].code],
        *([command.__name__, "--help"] for command in COMMANDS),
    ],
    ids=" ".join,
)
def test_commands_without_tensor_work_load_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    loaded = zoo_modules_after(arguments, tmp_path)
    assert "zoo" in loaded
    assert not loaded & HEAVY


def test_no_module_loads_anything_heavy_when_it_is_imported(tmp_path: Path) -> None:
    names = [name for name, _ in modules() if not name.endswith("__main__")]
    heavy = ",".join(sorted(HEAVY | ALSO_LAZY))
    command = [sys.executable, "-c", IMPORT_ALL, heavy, *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    assert not loaded, f"imported at the top of, or below, these modules: {loaded}"


def test_the_guard_sees_a_heavy_import(tmp_path: Path) -> None:
    command = [sys.executable, "-c", IMPORT_ALL, "numpy", "zoo", "numpy"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {"numpy": "numpy"}
