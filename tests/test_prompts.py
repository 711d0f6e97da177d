import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import INVOCATION_TEXT
from zoo.errors import BaseMissingError, RefusedError
from zoo.models import BaseModel, resolve
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import InvocationSpec, Position

QUESTION = [{"role": "user", "content": "Is the passage relevant?"}]
TEXTS = [
    "",
    "plain words",
    "<|im_start|>check\n",
    "<|im_start|>user\nhi<|im_end|>\n",
    "  two  spaces\t\n\n",
    "1234567890 3.14",
    "é 灯台 👩‍👩‍👧 \u200b\ufeff",
    "<|im_st<|im_end|>art|>",
    "\u00a0no-break\r\n",
]


def copied(base: BaseModel, folder: Path) -> Path:
    shutil.copytree(base.folder, folder)
    return folder


def test_ids_are_those_of_auto_tokenizer(tiny_base: BaseModel, embedded_base: BaseModel) -> None:
    from transformers import AutoTokenizer

    for base in (tiny_base, embedded_base):
        tokenizer, prompter = AutoTokenizer.from_pretrained(base.folder), Prompter(base)
        for text in TEXTS:
            assert list(prompter.encode(text)) == tokenizer.encode(text, add_special_tokens=False), text
        assert prompter.pad_id == tokenizer.pad_token_id
        assert list(prompter.end_ids) == [tokenizer.eos_token_id]


def test_the_embedded_bases_invocation(embedded_base: BaseModel) -> None:
    prompter = Prompter(embedded_base)
    assert prompter.encode(INVOCATION_TEXT) == (1, 5875, 198)
    assert prompter.decode((1, 5875, 198)) == INVOCATION_TEXT


def test_after_the_prompt_there_is_no_generation_prompt(tiny_base: BaseModel) -> None:
    prompter = Prompter(tiny_base)
    invocation = Invocation(
        text=INVOCATION_TEXT, ids=prompter.encode(INVOCATION_TEXT), position=Position.AFTER_PROMPT
    )
    (prompt,) = prompter.prompts([QUESTION], invocation)
    assert prompt.text == f"<|im_start|>user\nIs the passage relevant?<|im_end|>\n{INVOCATION_TEXT}"
    assert prompt.suffix == invocation.ids
    assert (*prompt.prefix, *prompt.suffix) == prompt.ids == prompter.encode(prompt.text)


def test_the_generation_prompt_as_invocation(tiny_base: BaseModel) -> None:
    prompter = Prompter(tiny_base)
    text = "<|im_start|>assistant\n"
    invocation = Invocation(text=text, ids=prompter.encode(text), position=Position.GENERATION_PROMPT)
    turns = [*QUESTION, {"role": "assistant", "content": "yes"}, *QUESTION]
    (prompt,) = prompter.prompts([turns], invocation)
    assert prompt.text.endswith(text)
    assert prompt.text.count(text) == 2
    assert prompt.start == len(prompt.ids) - len(invocation.ids)  # the last occurrence


def test_inside_the_last_message(tiny_base: BaseModel) -> None:
    prompter = Prompter(tiny_base)
    invocation = Invocation(
        text="<|im_start|>", ids=prompter.encode("<|im_start|>"), position=Position.IN_MESSAGE
    )
    spec = InvocationSpec(text=invocation.text, position=invocation.position)
    texts = prompter.texts([[{"role": "user", "content": "a<|im_start|>b"}]], spec)
    assert texts == ["<|im_start|>user\na<|im_start|>b<|im_end|>\n<|im_start|>assistant\n"]


def test_ids_that_only_occur_merged_are_refused_and_told_apart_from_absent_text(tiny_base: BaseModel) -> None:
    prompter = Prompter(tiny_base)
    merged = Invocation(text=">:", ids=(*prompter.encode(">"), 399), position=Position.IN_MESSAGE)
    with pytest.raises(RefusedError, match="merge with their neighbours") as caught:
        prompter.locate("<req>:", merged, label="conversation 3")
    assert caught.value.code == "ZI004"
    assert "conversation 3" in caught.value.message
    with pytest.raises(RefusedError, match="its text is not there"):
        prompter.locate("nothing of it", merged, label="x")


def test_a_real_merge_hides_an_invocation(embedded_base: BaseModel) -> None:
    """Like the published case of `<requirements>`: here the space before it merges with its first token."""
    prompter = Prompter(embedded_base)
    ids = prompter.encode("<requirements>")
    invocation = Invocation(text="<requirements>", ids=ids, position=Position.IN_MESSAGE)
    assert prompter.locate("say\n<requirements> X", invocation, label="x").start == 2
    with pytest.raises(RefusedError, match="merge"):
        prompter.locate("say <requirements> X", invocation, label="x")


def test_a_base_without_template_or_tokenizer(tiny_base: BaseModel, tmp_path: Path) -> None:
    folder = copied(tiny_base, tmp_path / "bare")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(RefusedError, match="no chat template") as caught:
        Prompter(resolve(str(folder))).render([QUESTION], generation_prompt=False)
    assert caught.value.code == "ZT001"
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BaseMissingError, match=r"no tokenizer\.json"):
        Prompter(resolve(str(folder))).encode("x")


def test_special_tokens_in_both_spellings(tiny_base: BaseModel, tmp_path: Path) -> None:
    folder = copied(tiny_base, tmp_path / "dicts")
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "eos_token": {"content": "<|im_end|>"}, "pad_token": None}))
    prompter = Prompter(resolve(str(folder)))
    assert prompter.special_tokens["eos_token"] == "<|im_end|>"
    assert prompter.end_ids == (2,)
    assert prompter.pad_id is None
    path.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    assert Prompter(resolve(str(folder))).end_ids == ()
