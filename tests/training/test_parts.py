from pathlib import Path

import pytest

from tests.training.conftest import Write, task
from zoo.errors import SpecError
from zoo.prompts import Invocation, Prompter
from zoo.training.parts import DataSettings, divide


def test_evaluation_data_that_was_trained_on_is_refused(
    write: Write, tmp_path: Path, prompter: Prompter, invocation: Invocation
) -> None:
    lines = task(8)
    held_out = write(lines[12:]).rename(tmp_path / "eval.jsonl")
    settings = DataSettings(eval_data=held_out, validation=0.2)

    parts = divide(write(lines[:12]), prompter, invocation, settings, seed=0)
    assert len(parts.held_out) == 4

    with pytest.raises(
        SpecError, match=r"eval\.jsonl, line 1 has the prompt of data\.jsonl, line 13"
    ) as caught:
        divide(write(lines), prompter, invocation, settings, seed=0)
    assert caught.value.code == "ZD002"


def test_evaluation_data_of_a_group_that_was_trained_on_is_refused(
    write: Write, tmp_path: Path, prompter: Prompter, invocation: Invocation
) -> None:
    """The other question about passage 3: the prompt is new, the passage is not."""
    lines = task(8)
    held_out = write([*lines[12:], lines[7]]).rename(tmp_path / "eval.jsonl")
    settings = DataSettings(eval_data=held_out, validation=0.2)
    data = write([*lines[:7], *lines[8:12]])
    with pytest.raises(
        SpecError, match=r"eval\.jsonl, line 5 has the group of data\.jsonl, line 7"
    ) as caught:
        divide(data, prompter, invocation, settings, seed=0)
    assert caught.value.code == "ZD002"
    assert "groups" in caught.value.hint

    write([lines[7] | {"group": "its own"}]).rename(held_out)  # the control: only the group was in common
    assert len(divide(write(lines[:7]), prompter, invocation, settings, seed=0).held_out) == 1
