"""What looks like a token or a key is found in files and kept out of messages; other words are let alone."""

import time

import pytest

from tests.security.corpus.secrets import KINDS
from zoo.credentials import find_credentials, redacted

HUB = KINDS["the Hub"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_is_found_where_it_stands_and_cut_off(kind: str) -> None:
    text = f"login with {KINDS[kind]} please"
    (offset,) = find_credentials(text.encode())
    assert len("login with ") <= offset < text.index(" please")
    shown = redacted(text)
    assert KINDS[kind][10:] not in shown
    assert shown.startswith("login with ")
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "the adapter hf_context_relevance_of_a_passage",
        "hf_" + "x" * 37,
        "git clone https://github.com/org/name",
        "https://user:token@example.org",
        "https://user:${TOKEN_OF_THE_JOB}@example.org",
        "-----BEGIN PUBLIC KEY-----",
        "task-specific-instructions-for-all",
        "0123456789abcdef" * 4,
    ],
)
def test_words_that_are_none_are_left_alone(text: str) -> None:
    assert not list(find_credentials(text.encode()))


def test_utf_16_is_seen_through() -> None:
    assert list(find_credentials(f"a {HUB}".encode("utf-16")))
    assert not list(find_credentials("a".encode("utf-16")))


def test_a_megabyte_of_beginnings_is_looked_through_at_once() -> None:
    begin = time.process_time()
    for mark in (b"hf_", b"eyJ", b"-----BEGIN ", b"https://a:", b"sk-", b"aws_secret_access_key = "):
        assert not list(find_credentials(mark * 1_000_000))
    assert time.process_time() - begin < 20  # megabytes a second, not kilobytes
