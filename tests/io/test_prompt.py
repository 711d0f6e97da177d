from pathlib import Path
from typing import Any

import pytest

from tests.conftest import INVOCATION_TEXT, build_tiny_base
from tests.io.specs import contract
from zoo.errors import ContractError, RefusedError
from zoo.io.prompt import Asked, place, rendered, rewritten
from zoo.models import resolve
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position
from zoo.template_sandbox import render

CALLS = [{"type": "function", "function": {"name": "search", "arguments": {"query": "passage"}}}]
WITH_CALLS = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    "{% for call in m.get('tool_calls') or [] %}{{ call['function']['name'] }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
)


def conversation(content: str | None) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Is the passage relevant?"},
        {"role": "assistant", "content": content, "tool_calls": CALLS},
        {"role": "tool", "content": "the passage"},
    ]


@pytest.fixture
def calling(tmp_path: Path) -> Prompter:
    """Of a base whose template has a place for tool calls."""
    folder = build_tiny_base(tmp_path / "base")
    (folder / "chat_template.jinja").write_text(WITH_CALLS)
    return Prompter(resolve(str(folder)))


def test_a_turn_that_only_calls_tools_is_rendered_with_an_empty_text(calling: Prompter) -> None:
    invocation = Invocation(
        text=INVOCATION_TEXT, ids=calling.encode(INVOCATION_TEXT), position=Position.AFTER_PROMPT
    )
    prompts = {}
    for content in (None, "", "Let me look."):
        sent = rewritten(contract(), {"messages": conversation(content)}, {}, calling, invocation)
        prompts[content] = place([Asked(messages=sent["messages"])], calling, invocation)[0]
    assert prompts[None].ids == prompts[""].ids != prompts["Let me look."].ids
    text = calling.tokenizer.decode(prompts[None].ids)
    assert "assistant\nsearch\ntool\nthe passage" in text
    bare = calling.variables(conversation(None), generation_prompt=False)
    with pytest.raises(RefusedError) as caught:  # what the template makes of null itself
        render(calling.template, [bare])
    assert caught.value.code == "ZT001"


@pytest.mark.parametrize("content", [None, "Let me look."])
def test_calls_that_a_template_would_drop_are_refused(prompter: Prompter, content: str | None) -> None:
    with pytest.raises(ContractError) as caught:
        rendered([Asked(messages=conversation(content))], prompter, generation_prompt=True)
    assert (caught.value.code, caught.value.path) == ("ZO159", ("messages",))
    nothing = [{**message, "tool_calls": []} for message in conversation("Let me look.")]
    assert rendered([Asked(messages=nothing)], prompter, generation_prompt=True)


@pytest.fixture(scope="module")
def prompter(tiny_base: Any) -> Prompter:
    return Prompter(tiny_base)
