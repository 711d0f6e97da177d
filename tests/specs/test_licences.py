"""What the terms of a base leave for the licence of an adapter."""

from pathlib import Path

import pytest

from zoo.specs.licences import conflict, family_license, stated_license, unclear


@pytest.mark.parametrize(
    ("base", "own"),
    [
        ("apache-2.0", "cc-by-nc-4.0"), ("mit", "apache-2.0"), ("llama3.1", "llama3.1"), ("gemma", "gemma"),
        ("cc-by-nc-4.0", "cc-by-nc-sa-4.0"), ("cc-by-nc-4.0", "cc-by-nc-4.0"), ("gpl-3.0", "agpl-3.0"),
        ("llama3.1", "other"), ("", "mit"), ("other", "mit"), ("cc-by-sa-4.0", "cc-by-sa-4.0"),
    ],
)  # fmt: skip
def test_what_fits(base: str, own: str) -> None:
    assert conflict(base, own) == ""


@pytest.mark.parametrize(
    ("base", "own"),
    [
        ("llama3.1", "apache-2.0"), ("gemma", "mit"), ("cc-by-nc-4.0", "cc-by-4.0"), ("agpl-3.0", "gpl-3.0"),
        ("cc-by-nc-sa-4.0", "cc-by-nc-4.0"), ("cc-by-nd-4.0", "cc-by-nd-4.0"), ("openrail", "apache-2.0"),
        ("cc-by-nc-nd-4.0", "other"), ("a-licence-of-next-year", "mit"),
    ],
)  # fmt: skip
def test_what_does_not(base: str, own: str) -> None:
    assert conflict(base, own)


def test_a_text_of_its_own_has_to_be_read() -> None:
    assert unclear("llama3.1", "other")
    assert unclear("other", "mit")
    assert not unclear("apache-2.0", "other")
    assert not unclear("", "other")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\nlicense: Apache-2.0\n---\n# A", "apache-2.0"),
        ("---\r\nlicense: mit\r\ntags: [a]\r\n---\r\n", "mit"),
        ("# A\n---\nlicense: mit\n---\n", ""),
        ("---\nlicense: [a]\n---\n", ""),
        ("---\nlicense: &a\n", ""),
        ("---\n- a\n---\n", ""),
        ("", ""),
    ],
)
def test_a_card_states_it_in_its_front_matter(text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert stated_license(tmp_path / "README.md") == found


def test_families_are_known_by_the_beginning_of_their_names() -> None:
    assert family_license("meta-llama/Llama-3.1-8B-Instruct") == "llama3.1"
    assert family_license("google/gemma-2-2b") == "gemma"
    assert family_license("org/llama-3.1-8b") == ""
