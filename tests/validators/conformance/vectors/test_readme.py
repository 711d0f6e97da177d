"""The README's example is run as it stands; its field lists are the schema's."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from zoo.validators.conformance.vectors.case import FOLDER, SCHEMA, cases, read_groups, vector_files

README = (FOLDER / "README.md").read_text(encoding="utf-8")


def example() -> str:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "zoo" not in code.replace("the folder of this README", "")
    return str(code)


def run_example(folder: Path) -> str:
    command = [sys.executable, "-W", "ignore", "-c", example(), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_runs_without_zoo_and_peft_agrees() -> None:
    plain = [case for case in cases(read_groups()) if not case.flags and case.rows[0].adapter]
    assert run_example(FOLDER) == f"{len(plain)} of {len(plain)} agree\n"


def test_the_example_notices_another_invocation(tmp_path: Path) -> None:
    folder = shutil.copytree(
        FOLDER, tmp_path / "vectors", ignore=shutil.ignore_patterns("__pycache__", "*.py")
    )
    path = folder / "adapter-a" / "adapter_config.json"
    config = json.loads(path.read_text())
    config["alora_invocation_tokens"] = config["alora_invocation_tokens"][:2]
    path.write_text(json.dumps(config))
    said = run_example(folder)
    assert "cut-at-the-end: off by" in said
    assert "once-in-the-middle" not in said


def test_every_file_field_and_flag_is_explained() -> None:
    schema = json.loads(SCHEMA.read_bytes())
    test, row = schema["$defs"]["test"]["properties"], schema["$defs"]["row"]["properties"]
    names = [path.name for path in vector_files()] + [SCHEMA.name]
    for name in (
        *schema["properties"].keys() - {"schema"},
        *test,
        *row,
        *test["flags"]["items"]["enum"],
        *names,
    ):
        assert f"`{name}`" in README, name
