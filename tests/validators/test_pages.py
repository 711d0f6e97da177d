"""Every code has its page, and every page a code; `zoo explain` finds them."""

import re

import pytest

from tests.source_tree import ROOT, package_folders
from zoo.errors import NotFoundError
from zoo.validators.catalog import ALL_CHECKS
from zoo.validators.explain import PAGES, page, titles

CODE = re.compile(r"\bZ[A-Z]\d{3}\b")


def mentioned() -> dict[str, set[str]]:
    """Every code in the source, with the files that mention it."""
    found: dict[str, set[str]] = {}
    for folder in package_folders().values():
        for path in folder.rglob("*.py"):
            for code in CODE.findall(path.read_text(encoding="utf-8")):
                found.setdefault(code, set()).add(str(path.relative_to(ROOT)))
    return found


def test_codes_are_unique() -> None:
    codes = [check.code for check in ALL_CHECKS]
    assert len(codes) == len(set(codes))


def test_every_code_in_the_source_has_a_page() -> None:
    missing = {code: files for code, files in mentioned().items() if code not in titles()}
    assert not missing


def test_every_page_is_of_a_code_in_the_source() -> None:
    assert not titles().keys() - mentioned().keys()


def test_a_checks_page_has_its_title() -> None:
    known = titles()
    other = {c.code: c.title for c in ALL_CHECKS if c.code in known and known[c.code] != c.title}
    assert not other


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_says_what_why_how_and_where_from(path: object) -> None:
    code = getattr(path, "stem", "")
    text = page(code)
    assert text.startswith(f"# {code}: ")
    assert text.endswith("\n")
    assert 5 <= len(text.splitlines()) <= 40
    for word in ("What", "Why", "How to fix", "Source"):
        assert re.search(rf"(?im)^\W*{word}", text), f"{code} does not say {word}"


def test_required_checks_run_earlier() -> None:
    seen: set[str] = set()
    for check in ALL_CHECKS:
        assert set(check.requires) <= seen, check.code
        seen.add(check.code)


def test_a_code_is_found_in_any_case_and_a_wrong_one_names_its_neighbours() -> None:
    assert page(" zf001 ") == page("ZF001")
    with pytest.raises(NotFoundError) as caught:
        page("ZC0O3")
    assert "ZC003" in caught.value.hint
    with pytest.raises(NotFoundError) as caught:
        page("\x1b[31mnonsense")
    assert caught.value.hint == "zoo explain lists all codes"
    assert "\x1b" not in str(caught.value)
