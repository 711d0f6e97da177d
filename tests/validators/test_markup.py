"""Words that would act on their reader, and words about such words."""

import pytest

from tests.security.corpus.words import TAGS
from zoo.validators.loading import leads_out, loading_keys, texts
from zoo.validators.markup import acts


@pytest.mark.parametrize("name", TAGS)
def test_what_acts_is_named(name: str) -> None:
    assert acts(f"Says whether it helps. {TAGS[name]}")


@pytest.mark.parametrize(
    "text",
    [
        "Says *whether* a passage [helps](https://example.org/a?b=c#d), 3 < 4, x<y.",
        "Two lines.\n\n- a list\t`code`\r\n", "<b>bold</b> and <br>", "data: 300 passages", "a onion = b",
        "Javascript code: yes", "נכתב בעברית \u200f", "क्\u200dष", "👩\u200d👩\u200d👧", "<sub>2</sub>",
    ],
)  # fmt: skip
def test_plain_words_and_markdown_are_let_through(text: str) -> None:
    assert acts(text) == ""


def test_comments_are_let_through_where_nothing_follows() -> None:
    assert acts("<!-- a -->")
    assert not acts("<!-- a -->", comments=True)


def test_a_megabyte_of_beginnings_is_looked_through_at_once() -> None:
    assert not acts("<a " * 300_000)
    assert not acts("<a" + " on" * 300_000)
    assert not acts("data " * 200_000)


def test_keys_that_load_are_found_at_any_depth_and_empty_ones_are_not() -> None:
    document = {"a": [{"b": {"auto_map": {"x": "y"}}}], "trust_remote_code": False, "auto_map": None}
    assert list(loading_keys(document)) == [("auto_map", {"x": "y"})]
    assert list(loading_keys("auto_map")) == []


@pytest.mark.parametrize(
    "text", ["../base", "a/../b", "./base", "/etc", "~/x", "C:\\x", "\\\\host\\x", "https://a", "file:///a"]
)
def test_what_leads_out_is_told_from_a_name(text: str) -> None:
    assert leads_out(text)
    for name in ("org/name", "gpt2", "org/name-1.5_b", "a..b", "v1.0"):
        assert not leads_out(name)


def test_texts_are_found_in_lists_and_maps() -> None:
    assert sorted(texts({"a": ["b", {"c": "d"}], "e": 1})) == ["b", "d"]
    assert list(texts("x")) == ["x"]
