"""What the README says is what the project does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import readme
from tests.benchmarks.readme import ARMS, BEGIN, TASKS_BEGIN, TASKS_END, figures, table, task_table, updated

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


def unmeasured(shown: str) -> list[str]:
    """Ids of the rows in which a cell is empty."""
    rows = [row.strip("| ").replace("\\|", "").split("|") for row in shown.splitlines()[2:]]
    return [cells[0].strip() for cells in rows if not all(cell.strip() for cell in cells)]


def test_every_figure_shows_what_was_measured() -> None:
    assert not unmeasured(table(figures()))
    record = figures()[0]
    only_detail = {**record, "value": {"A": {str(n): [n] for n in range(9)}}}
    assert unmeasured(table([record, only_detail])) == [record["id"]]


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


TASK = {
    "id": "task-satire",
    "met": True,
    "value": {
        "samples": 994,
        "groups": 994,
        "seeds": 3,
        "trivial": 0.5,
        **{arm: {"value": 0.9, "interval_95": [0.88, 0.92]} for arm in ARMS},
        "recovered_minus_lora": {"value": -0.01, "interval_95": [-0.02, 0.004]},
        "verdicts": ["equivalent", "undecided", "equivalent"],
    },
}


def test_the_real_tasks_have_a_table_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with_place = f"{README}\n{TASKS_BEGIN}\nold\n{TASKS_END}\n"
    shown = "| satire | 994 in 994 groups | 3 | 0.500 | " + "0.900 (0.880 to 0.920) | " * 4

    monkeypatch.setattr(readme, "task_records", lambda: [TASK])
    assert f"{shown}-0.010 (-0.020 to 0.004) | equivalent, undecided |" in updated(with_place)
    assert "satire (bar not met)" in task_table([{**TASK, "met": False}])
    with pytest.raises(ValueError, match="markers"):
        updated(README.replace(TASKS_BEGIN, ""))


def test_before_the_real_tasks_are_measured_the_table_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "task_records", list)

    assert "Not measured yet." in updated(f"{README}\n{TASKS_BEGIN}\nold\n{TASKS_END}\n")
    assert all(not record["id"].startswith("task-") for record in figures())
