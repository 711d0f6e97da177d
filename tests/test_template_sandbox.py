import time
from typing import Any

import pytest

from zoo import template_sandbox
from zoo.errors import RefusedError
from zoo.models import BaseModel
from zoo.template_sandbox import render, render_each

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": 'Is 3 > 2 & "so"? é 灯\n\n'},
    {"role": "assistant", "content": " yes "},
]
TRICKY = {
    "trimmed blocks": "  {% for m in messages %}\n    {{ m.content }}\n  {% endfor %}\nend\n",
    "tojson": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "ascii json": "{{ 'é<' | tojson(ensure_ascii=True) }}",
    "sorted json": "{{ {'b': 1, 'a': [2]} | tojson(separators=(',', ':'), sort_keys=True) }}",
    "break": "{% for m in messages %}{{ m.role }}{% if loop.first %}{% break %}{% endif %}{% endfor %}",
    "generation": (
        "{% for m in messages %}{% generation %}[{{ m.content }}]{% endgeneration %}\n{% endfor %}"
    ),
    "generation keeps its variables": (
        "{% set x = 'out' %}{% generation %}{% set x = 'in' %}{{ x }}{% endgeneration %}{{ x }}"
    ),
    "namespace": "{% set a = namespace(n=0) %}{% for m in messages %}{% set a.n = 7 %}{% endfor %}{{ a.n }}",
    "macro": "{% macro t(m) %}<{{ m['role'] }}>{% endmacro %}{% for m in messages %}{{ t(m) }}{% endfor %}",
    "undefined": "{{ nothing }}{{ messages[0].nothing }}{% if tools %}tools{% endif %}{{ tools is none }}",
    "special tokens": "{{ bos_token }}{% if add_generation_prompt %}+{% endif %}{{ eos_token }}",
    "string methods": "{{ messages[1].content.strip().split('\\n')[0].upper() }}{{ 'a,b'.replace(',', '') }}",
    "negative slice": "{{ messages[::-1][0].role }}{{ messages[-1]['content'] | trim }}",
    "dict": "{{ dict(a=1) }}{% for k, v in {'x': 1}.items() %}{{ k }}{{ v }}{% endfor %}",
}


@pytest.fixture(autouse=True)
def rendered_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from the cache: what is tested here is the rendering."""
    monkeypatch.setattr("zoo.cache.remembered", lambda kind, question, answer: answer())


def theirs(template: str, *, generation_prompt: bool = False, **rest: Any) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered = render_jinja_template(
        conversations=[CHAT], chat_template=template, add_generation_prompt=generation_prompt, **rest
    )
    text: str = rendered[0][0]
    return text


@pytest.mark.parametrize("template", TRICKY.values(), ids=TRICKY.keys())
def test_tricky_templates_render_as_in_transformers(template: str) -> None:
    specials = {"bos_token": "<s>", "eos_token": "</s>"}
    for generation_prompt in (False, True):
        context = {
            **specials,
            "messages": CHAT,
            "tools": None,
            "documents": None,
            "add_generation_prompt": generation_prompt,
        }
        expected = theirs(template, generation_prompt=generation_prompt, **specials)
        assert render(template, [context]) == [expected]


def test_the_embedded_bases_template_renders_as_apply_chat_template(embedded_base: BaseModel) -> None:
    from transformers import AutoTokenizer

    from zoo.prompts import Prompter

    tokenizer = AutoTokenizer.from_pretrained(embedded_base.folder)
    prompter = Prompter(embedded_base)
    chats = [CHAT, CHAT[1:2], [*CHAT, {"role": "user", "content": ""}]]
    for generation_prompt in (False, True):
        expected = [
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=generation_prompt)
            for chat in chats
        ]
        assert prompter.render(chats, generation_prompt=generation_prompt) == expected


def test_several_contexts_in_one_go() -> None:
    assert render("{{ x }}", [{"x": "a"}, {"x": "b"}]) == ["a", "b"]
    assert render("{{ x }}", []) == []


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__ }}", "SecurityError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% include '/etc/passwd' %}", "does not render"),
        ("{% import 'os' as os %}", "does not render"),
        ("{{ range(10**9) | list }}", "does not render"),
    ],
)
def test_a_template_that_fails_is_refused_with_its_reason(template: str, says: str) -> None:
    with pytest.raises(RefusedError) as caught:
        render(template, [{"messages": []}])
    assert caught.value.code == "ZT001"
    assert says in caught.value.message


BOMBS = {
    "string": "{{ 'a' * 20000000000 }}",
    "growing string": "{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s=n.s*2 %}{% endfor %}",
    "output": "{% for i in range(70) %}{{ 'a' * 1000000 }}{% endfor %}",
    "padding": "{{ 'a'.ljust(20000000000) }}",
    "formatting": "{{ '%20000000000d' % 1 }}",
}


@pytest.mark.parametrize("template", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_end_in_a_refusal_within_the_limits(template: str) -> None:
    begin = time.monotonic()
    with pytest.raises(RefusedError) as caught:
        render(template, [{"messages": []}])
    assert caught.value.code == "ZT001"
    assert time.monotonic() - begin < template_sandbox.CPU_SECONDS + 20


@pytest.mark.slow
def test_nested_loops_end_after_the_limit() -> None:
    loops = "".join(f"{{% for a{i} in range(90000) %}}" for i in range(4)) + "{% endfor %}" * 4
    with pytest.raises(RefusedError, match="to render"):
        render(loops, [{}])


def test_a_huge_template_is_not_even_sent() -> None:
    with pytest.raises(RefusedError, match="larger than"):
        render(" " * (template_sandbox.MAX_TEMPLATE_BYTES + 1), [{}])


def test_a_module_in_the_current_folder_is_not_imported(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    assert render("{{ 1 }}", [{}]) == ["1"]


def test_each_refusal_is_an_answer_and_the_rest_is_rendered() -> None:
    source = "{% if n == 2 %}{{ raise_exception('not two') }}{% endif %}!{{ n }}"
    first, second, third, empty = render_each(source, [{"n": 1}, {"n": 2}, {"n": 3}, {"n": ""}])
    assert (first, third, empty) == ("!1", "!3", "!")
    assert isinstance(second, RefusedError)
    assert second.code == "ZT001"
    assert second.message == "the chat template does not render: TemplateError: not two"
    with pytest.raises(RefusedError, match="does not render"):
        render_each("{% if %}", [{}])


def test_every_request_has_a_process_of_its_own_also_when_one_waits() -> None:
    for text in ("first", "second"):
        assert render("{{ text }}", [{"text": text}]) == [text]
    (waiting,) = template_sandbox._spares
    assert render("{% set leaked = 1 %}{{ text }}", [{"text": "third"}]) == ["third"]
    assert waiting.returncode == 0  # it answered this one and is gone
    assert template_sandbox._spares != [waiting]


def test_a_waiting_process_that_died_is_not_taken_for_the_templates_fault() -> None:
    for text in ("first", "second"):
        render("{{ text }}", [{"text": text}])
    (waiting,) = template_sandbox._spares
    waiting.kill()
    waiting.wait()
    assert render("{{ text }}", [{"text": "third"}]) == ["third"]
