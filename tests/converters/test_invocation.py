"""Where a converted adapter activates, against PEFT's own offsets and the alora package's formulas."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft.tuners.lora.variants import calculate_alora_offsets

from tests.conftest import INVOCATION_TEXT
from tests.converters import oracle
from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.invocation import decide, suggestion
from zoo.converters.readers import read_checkpoint
from zoo.converters.readers.legacy import Boundary, trigger
from zoo.converters.source import Source
from zoo.errors import RefusedError, UsageError
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.specs.release import Position

Make = Callable[..., Path]


@pytest.fixture
def prompter(tiny_base: BaseModel) -> Prompter:
    return Prompter(tiny_base)


@pytest.fixture
def read(make_adapter: Make, tiny_base: BaseModel) -> Callable[..., LoraCheckpoint]:
    def make(**config: object) -> LoraCheckpoint:
        return read_checkpoint(Source.open(oracle.edit_config(make_adapter(), **config)), tiny_base)

    return make


Read = Callable[..., LoraCheckpoint]


def test_a_plain_lora_takes_the_text_it_is_given(read: Read, prompter: Prompter) -> None:
    invocation, notes = decide(read(), prompter, text=INVOCATION_TEXT)
    assert invocation.ids == prompter.encode(INVOCATION_TEXT)
    assert invocation.position is Position.AFTER_PROMPT
    assert not notes


def test_a_plain_lora_without_a_text_is_told_one_that_works(read: Read, prompter: Prompter) -> None:
    with pytest.raises(UsageError, match="needs an invocation") as missing:
        decide(read(), prompter)
    proposed = suggestion("adapter", prompter)
    assert proposed == "<|im_start|>adapter\n"
    assert proposed.replace("\n", "\\n") in missing.value.hint
    assert decide(read(), prompter, text=proposed)[0].text == proposed


def test_the_ids_of_an_alora_are_kept(read: Read, prompter: Prompter) -> None:
    ids = prompter.encode(INVOCATION_TEXT)
    source = read(alora_invocation_tokens=list(ids))
    assert decide(source, prompter)[0].ids == ids
    assert decide(source, prompter)[0].text == INVOCATION_TEXT
    assert decide(source, prompter, text=INVOCATION_TEXT)[0].ids == ids
    with pytest.raises(UsageError, match="has other ids"):
        decide(source, prompter, text="<|im_start|>other\n")


def test_the_generation_prompt_is_recognised(read: Read, prompter: Prompter) -> None:
    invocation, _ = decide(read(), prompter, text="<|im_start|>assistant\n")
    assert invocation.position is Position.GENERATION_PROMPT


def test_an_invocation_written_in_the_message(read: Read, prompter: Prompter) -> None:
    invocation, _ = decide(read(), prompter, text="<|im_start|>check<|im_end|>", position=Position.IN_MESSAGE)
    assert invocation.position is Position.IN_MESSAGE


@pytest.mark.parametrize(
    ("text", "position", "code"),
    [
        ("requirements", Position.AFTER_PROMPT, ""),
        (INVOCATION_TEXT, Position.GENERATION_PROMPT, "ZI004"),  # the template never writes it
    ],
)
def test_an_invocation_that_never_occurs_is_refused(
    text: str, position: Position | None, code: str, read: Read, prompter: Prompter
) -> None:
    if not code:
        assert decide(read(), prompter, text=text, position=position)[0].text == text
        return
    with pytest.raises(RefusedError) as refused:
        decide(read(), prompter, text=text, position=position)
    assert refused.value.code == code


def test_ids_outside_the_vocabulary_are_refused(read: Read, prompter: Prompter) -> None:
    with pytest.raises(RefusedError, match="vocabulary") as refused:
        decide(read(alora_invocation_tokens=[1, 100_000]), prompter)
    assert refused.value.code == "ZV022"


@pytest.mark.parametrize("boundary", list(Boundary))
def test_the_legacy_boundary_is_where_the_package_puts_it(boundary: Boundary, prompter: Prompter) -> None:
    whole = prompter.encode(INVOCATION_TEXT)
    prompt = [*prompter.encode("user: the passage\n"), *whole, *prompter.encode("yes")]
    start = len(prompter.encode("user: the passage\n"))
    formulas = {  # alora 0.3.0, peft_model_alora.py: line 1785 in generate, line 1589 in forward
        Boundary.EXCLUSIVE: len(prompt) - 1 - start,
        Boundary.INCLUSIVE: len(prompt) - start,
    }
    ids = trigger(whole, boundary)
    assert calculate_peft_offset(prompt, ids) == formulas[boundary]


def calculate_peft_offset(prompt: list[int], ids: tuple[int, ...]) -> int:
    """PEFT's offset for a row."""
    import torch
    from peft import LoraConfig

    config: Any = {"default": LoraConfig(task_type="CAUSAL_LM", alora_invocation_tokens=list(ids))}
    found = calculate_alora_offsets(config, "default", torch.tensor([prompt]))
    assert found[0] is not None
    return int(found[0])


@pytest.mark.parametrize(
    ("boundary", "word"), [(Boundary.EXCLUSIVE, "one token after"), (Boundary.INCLUSIVE, "all ids")]
)
def test_the_plan_says_how_the_boundary_was_read(
    boundary: Boundary, word: str, read: Read, prompter: Prompter
) -> None:
    invocation, notes = decide(read(invocation_string=INVOCATION_TEXT), prompter, boundary=boundary)
    assert invocation.text == INVOCATION_TEXT  # the prompt needs all of it, whatever PEFT looks for
    assert word in notes[0].replace("\n", " ")
    assert str(list(invocation.ids)) in notes[0]


def test_a_legacy_invocation_of_one_token_has_no_exclusive_boundary(read: Read, prompter: Prompter) -> None:
    source = read(invocation_string="<|im_start|>")
    with pytest.raises(RefusedError) as refused:
        decide(source, prompter)
    assert refused.value.code == "ZV019"
    assert decide(source, prompter, boundary=Boundary.INCLUSIVE)[0].ids == (1,)


def test_a_legacy_invocation_cannot_be_replaced(read: Read, prompter: Prompter) -> None:
    with pytest.raises(UsageError, match="leave --invocation out"):
        decide(read(invocation_string=INVOCATION_TEXT), prompter, text="<|im_start|>other\n")


def test_without_a_chat_template_there_is_no_proposal(tiny_base: BaseModel, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tiny_base.folder, tmp_path / "bare")
    (tmp_path / "bare" / "chat_template.jinja").unlink()
    assert suggestion("x", Prompter(replace(tiny_base, folder=tmp_path / "bare"))) == ""


def test_an_invocation_that_merges_with_the_prompt_is_refused(
    read: Read, tiny_base: BaseModel, tmp_path: Path
) -> None:
    import json
    import shutil

    after = Position.AFTER_PROMPT
    assert decide(read(), Prompter(tiny_base), text="\n", position=after)[0].ids == (201,)
    shutil.copytree(tiny_base.folder, tmp_path / "merging")
    path = tmp_path / "merging" / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"]["ĊĊ"] = len(document["model"]["vocab"])
    document["model"]["merges"].append(["Ċ", "Ċ"])  # two newlines in a row become one token
    path.write_text(json.dumps(document))
    merging = Prompter(replace(tiny_base, folder=tmp_path / "merging"))
    with pytest.raises(RefusedError, match="merge") as refused:
        decide(read(), merging, text="\n", position=after)  # (201,) still occurs earlier, after "user"
    assert refused.value.code == "ZI004"


def test_text_that_does_not_survive_the_tokenizer_is_refused(
    read: Read, tiny_base: BaseModel, tmp_path: Path
) -> None:
    import json
    import shutil

    shutil.copytree(tiny_base.folder, tmp_path / "lower")
    path = tmp_path / "lower" / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": {"type": "Lowercase"}}))
    lower = Prompter(replace(tiny_base, folder=tmp_path / "lower"))
    assert decide(read(), lower, text="<|im_start|>check\n")[0].ids
    with pytest.raises(RefusedError, match="reads back") as refused:
        decide(read(), lower, text="<|im_start|>CHECK\n")
    assert refused.value.code == "ZV022"
    with pytest.raises(UsageError, match="Unicode"):
        decide(read(), lower, text="\ud800")
