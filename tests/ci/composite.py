"""Runs the shell steps of a composite action as a runner of GitHub would, for the part that we use."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


@dataclass(frozen=True, kw_only=True)
class Ended:
    """An action that ran: status of the step that stopped it or of the last, its outputs, what it said."""

    status: int
    outputs: Mapping[str, str]
    stdout: str
    stderr: str
    summary: str


def value(text: object, inputs: Mapping[str, str], steps: Mapping[str, Mapping[str, str]]) -> str:
    """A text with its expressions worked out; anything but inputs, outputs and `==` is refused."""

    def one(expression: str) -> str:
        left, equal, right = (part.strip() for part in expression.partition("=="))
        if equal:
            return "true" if one(left) == right.strip("'") else "false"
        match left.split("."):
            case ["inputs", name]:
                return inputs[name]
            case ["steps", step, "outputs", name]:
                return steps.get(step, {}).get(name, "")
            case _:
                raise ValueError(expression)

    return EXPRESSION.sub(lambda found: one(found[1]), str(text))


def run_action(
    path: Path, given: Mapping[str, str], *, workspace: Path, environment: Mapping[str, str]
) -> Ended:
    """Runs an action's steps in order, until one fails."""
    action: dict[str, Any] = yaml.safe_load(path.read_text())
    declared = action["inputs"]
    assert set(given) <= set(declared), "an input that the action does not declare"
    inputs = {name: str(given.get(name, one.get("default", ""))) for name, one in declared.items()}
    steps: dict[str, dict[str, str]] = {}
    files = {name: workspace / f".{name}" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    status, stdout, stderr = 0, "", ""
    for step in action["runs"]["steps"]:
        if "if" in step and value(step["if"], inputs, steps) != "true":
            continue
        for file in files.values():
            file.touch()
        files["GITHUB_OUTPUT"].write_text("")
        known = {name: value(text, inputs, steps) for name, text in step.get("env", {}).items()}
        assert step["shell"] == "bash"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=workspace / value(step.get("working-directory", "."), inputs, steps),
            env={
                **os.environ,
                **environment,
                **known,
                **{name: str(file) for name, file in files.items()},
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTION_PATH": str(path.parent),
            },
            capture_output=True,
            text=True,
        )
        status, stdout, stderr = done.returncode, stdout + done.stdout, stderr + done.stderr
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        steps[step.get("id", "")] = dict(line.split("=", 1) for line in lines)
        if status:
            break
    outputs = {name: value(one["value"], inputs, steps) for name, one in action["outputs"].items()}
    summary = files["GITHUB_STEP_SUMMARY"].read_text()
    return Ended(status=status, outputs=outputs, stdout=stdout, stderr=stderr, summary=summary)
