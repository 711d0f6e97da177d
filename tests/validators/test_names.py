"""Names that another system reads as something else, and those that it does not."""

import pytest

from zoo.validators.names import folded, misread


@pytest.mark.parametrize(
    "name",
    [
        "README.md", "images/loss-curve_2.png", "LICENSE", ".gitattributes", "a b.md", "конспект.md",
        "灯台.png", "図1-loss.png", "café.md", "cafe\u0301.md", "auxiliary.md", "console.md", "com.md",
        "v1.0.md",
    ],
)  # fmt: skip
def test_ordinary_names_are_let_through(name: str) -> None:
    assert misread(name) == ""


@pytest.mark.parametrize(
    "name",
    [
        "a\\b.md", "a\n.md", "a\x1b[2J.md", "\u202ea.md", "a\u200b.md", "aux", "NUL.md", "images/com1.png",
        "a:b.md", "what?.md", "a.md.", "a.md ", " a.md", "-rf", "~a", "RE\u0410DME.md", "N\u039fTES.md",
        "LPT9", "\uff32.md", "\ufb01ne.md", "images/RE\u0410D/a.md",
    ],
)  # fmt: skip
def test_others_are_named(name: str) -> None:
    assert misread(name)


@pytest.mark.parametrize(
    ("one", "other"), [("A.md", "a.md"), ("é", "e\u0301"), ("ß", "SS"), ("\ufb01", "fi"), ("Σ", "ς")]
)
def test_names_that_are_one_somewhere_fold_alike(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    assert folded(one) != folded("b")
