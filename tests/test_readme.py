"""What the README says is what the project does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.readme import BEGIN, figures, table, updated

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every `zoo …` command line of the README's code blocks, continuation lines joined."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", README, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.removeprefix("$ ").startswith("zoo ")]


def test_the_figures_are_those_of_the_evidence() -> None:
    assert updated(README) == README, "run: python -m tests.benchmarks.readme"


def test_a_changed_figure_would_be_seen() -> None:
    records = figures()
    changed = [dict(records[0], value="something else"), *records[1:]]

    assert table(changed) not in README
    with pytest.raises(ValueError, match="markers"):
        updated(README.replace(BEGIN, ""))


def test_the_readme_shows_commands() -> None:
    assert {"convert", "validate", "publish", "train", "card"} <= {line.split()[1] for line in commands()}


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_every_option_the_readme_shows_exists(line: str) -> None:
    words = shlex.split(line, comments=True)
    zoo = str(Path(sys.executable).with_name("zoo"))
    if words[1].startswith("-"):
        return
    shown = subprocess.run([zoo, words[1], "--help"], capture_output=True, text=True, check=True).stdout

    for word in words[2:]:
        if word.startswith("--"):
            assert word.partition("=")[0] in shown, f"{word} is not an option of zoo {words[1]}"
