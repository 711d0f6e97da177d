"""The corpus behind the invocation checks, and what they measure on it."""

import shutil
import unicodedata
from pathlib import Path

import pytest

from tests.conftest import CHATML
from tests.validators.breakages import BREAKAGES
from tests.validators.changes import break_release, relock, template
from tests.validators.measured import number
from tests.validators.releases import static_results
from zoo.models import BaseModel, resolve
from zoo.prompts import Invocation, Prompter
from zoo.report import Flagged, Passed
from zoo.specs.release import Position
from zoo.validators.characters import CATEGORIES, endings
from zoo.validators.chat import Kind
from zoo.validators.checks.truncation import context_length
from zoo.validators.generated import DOCUMENT, PREFIXES, generated
from zoo.validators.injection import encode_apart
from zoo.validators.rendering import LEFT_OUT, REFUSED, TAKEN, render_samples

TEXT = "<|im_start|>check\n"
TAKES_ALL = (
    "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
    "{% for d in documents or [] %}<doc>{{ d.text }}</doc>{% endfor %}" + CHATML
)
REFUSES = (
    "{% if tools %}{{ raise_exception('no tools') }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tool role') }}{% endif %}"
    "{% endfor %}" + CHATML
)


def outcome(release: Path, base: BaseModel, code: str) -> Passed | Flagged:
    found = next(r.outcome for r in static_results(release, base) if r.code == code)
    assert isinstance(found, Passed | Flagged)
    return found


def invocation(base: BaseModel, text: str = TEXT, position: Position = Position.AFTER_PROMPT) -> Invocation:
    return Invocation(text=text, ids=Prompter(base).encode(text), position=position)


def test_every_category_of_unicode_is_tried_and_each_character_is_of_its_own() -> None:
    every = {unicodedata.category(chr(code)) for code in range(0x110000)}
    assert CATEGORIES.keys() == every - {"Cs"}  # surrogates are in no UTF-8 text
    for category, characters in CATEGORIES.items():
        assert {unicodedata.category(character) for character in characters} == {category}
    ascii_marks = {chr(code) for code in range(33, 127) if not chr(code).isalnum()}
    assert ascii_marks | set("0123456789") <= set(endings())


def test_every_beginning_of_the_invocation_is_written_and_never_the_whole() -> None:
    contents = {str(chat.messages[-1]["content"]) for chat in generated(TEXT, ())}
    written = {size for size in range(1, len(TEXT)) if f"When was it lit? {TEXT[:size]}" in contents}
    assert written == set(range(1, len(TEXT)))
    assert not [content for content in contents if TEXT in content]
    long = generated("y" * 5000, ())
    assert sum("the invocation's first" in chat.label for chat in long) == PREFIXES


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (CHATML, {Kind.TOOLS: LEFT_OUT, Kind.DOCUMENTS: LEFT_OUT, Kind.TOOL_RESULTS: TAKEN}),
        (TAKES_ALL, {Kind.TOOLS: TAKEN, Kind.DOCUMENTS: TAKEN, Kind.TOOL_RESULTS: TAKEN}),
        (REFUSES, {Kind.TOOLS: REFUSED, Kind.DOCUMENTS: LEFT_OUT, Kind.TOOL_RESULTS: REFUSED}),
    ],
    ids=["leaves out", "takes", "refuses"],
)
def test_what_a_template_does_with_each_kind_is_said(
    source: str, said: dict[Kind, str], release: Path, tiny_base: BaseModel
) -> None:
    base = template(source)(release, tiny_base)
    assert base
    relock(release, base)
    measured = outcome(release, base, "ZT001").measured
    assert {kind: measured[kind.value] for kind in said} == said
    proof = outcome(release, base, "ZI004")
    assert isinstance(proof, Passed)
    assert proof.measured["prompts"] == proof.measured["prompts_with_invocation_once"]


def test_documents_and_tools_reach_the_prompt(tiny_base: BaseModel, release: Path) -> None:
    base = template(TAKES_ALL)(release, tiny_base)
    assert base
    rendering = render_samples(Prompter(base), invocation(base), ())
    assert any(DOCUMENT["text"] in prompt.text for prompt in rendering.prompts)
    assert any('"name": "tide_table"' in prompt.text for prompt in rendering.prompts)


def test_the_published_requirement_says_which_merge_it_is(release: Path, tiny_base: BaseModel) -> None:
    base = break_release(release, tiny_base, BREAKAGES["published requirement"])
    found = outcome(release, base, "ZI004")
    assert isinstance(found, Flagged)
    (finding,) = found.findings
    count = found.measured["prompts"]
    assert finding.message == (
        f"the invocation '<requirements>' is missing from 1 of {count} tokenised prompts, where the adapter "
        "can never act: its tokens merge with their neighbours: '>:' is one token, id 270 "
        "(sample 0 of zoo.yaml)"
    )


def test_a_cut_on_the_right_is_measured_as_silently_off(release: Path, tiny_base: BaseModel) -> None:
    measured = outcome(release, tiny_base, "ZI009").measured
    prompts = outcome(release, tiny_base, "ZI004").measured["prompts"]
    assert measured["tokens_that_must_stay_at_the_end"] == len(Prompter(tiny_base).encode(TEXT))
    assert measured["kept_when_cut_on_the_left"] == prompts
    assert measured["silently_off_when_cut_on_the_right"] == prompts
    assert measured["context_length"] == 2048


def test_a_generation_prompt_that_is_cut_activates_in_an_earlier_turn(
    release: Path, tiny_base: BaseModel
) -> None:
    from tests.validators.changes import invocation as other

    other("<|im_start|>assistant\n", "generation_prompt")(release, tiny_base)
    relock(release, tiny_base)
    measured = outcome(release, tiny_base, "ZI009").measured
    assert number(measured["moved_to_an_earlier_turn_when_cut_on_the_right"]) > 0
    said = outcome(release, tiny_base, "ZI004")
    assert isinstance(said, Flagged)
    assert [f.severity.value for f in said.findings] == ["info"]
    assert "the template itself writes" in said.findings[0].message


def test_a_base_that_states_no_context_length(tiny_base: BaseModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base.folder, tmp_path / "base"))
    (folder / "config.json").write_text("{}")
    assert context_length(resolve(str(folder))) is None
    (folder / "config.json").write_text('{"text_config": {"max_position_embeddings": 77}}')
    assert context_length(resolve(str(folder))) == 77


def test_quotations_are_harmless_behind_a_prompt_and_move_it_inside_a_message(
    release: Path, tiny_base: BaseModel
) -> None:
    measured = outcome(release, tiny_base, "ZI008").measured
    assert measured["quotations_that_move_it"] == 0
    assert number(measured["quotations_that_make_an_earlier_copy"]) >= 6
    assert measured["quotations_that_make_a_copy_with_special_tokens_off_in_them"] == 0
    base = break_release(release, tiny_base, BREAKAGES["inside a message"])
    inside = outcome(release, base, "ZI008").measured
    assert inside["quotations_that_move_it"] == 3
    assert inside["quotations_that_move_it_with_special_tokens_off_in_them"] == 0


def test_without_special_tokens_nothing_helps_inside_a_message(release: Path, tiny_base: BaseModel) -> None:
    base = break_release(release, tiny_base, BREAKAGES["tokens at a boundary"])
    found = outcome(release, base, "ZI008")
    assert isinstance(found, Flagged)
    assert number(found.measured["quotations_that_move_it_with_special_tokens_off_in_them"]) > 0
    assert found.findings[0].fix == "use the position after_prompt"


def test_special_tokens_are_parsed_outside_the_quotation_only(tiny_base: BaseModel) -> None:
    prompter = Prompter(tiny_base)
    text = f"<|im_start|>user\n say {TEXT}<|im_end|>\n"
    apart = encode_apart(prompter.tokenizer, text, (f" say {TEXT} ",))  # the template has stripped it
    assert apart.count(1) == 1
    assert apart.count(2) == 1
    assert prompter.decode(apart) == text
    assert prompter.encode(text).count(1) == 2  # and the tokenizer is as before
    assert encode_apart(prompter.tokenizer, text, ("not there",)) == prompter.encode(text)


def test_a_tokenizer_file_that_truncates_does_not_cut_our_prompts(
    release: Path, tiny_base: BaseModel
) -> None:
    base = break_release(release, tiny_base, BREAKAGES["tokenizer that cuts"])
    long = "yes no " * 50
    assert Prompter(base).encode(long) == Prompter(tiny_base).encode(long)
    assert Prompter(base).own_truncation["max_length"] == 16
    assert Prompter(tiny_base).own_truncation == {}
