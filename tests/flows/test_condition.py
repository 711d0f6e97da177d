import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.specs.condition import OPERATORS, parse_condition

LITERALS = st.one_of(st.text(max_size=20), st.integers(), st.floats(allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ('a.b == "yes"', "yes", True),
        ('a.b == "yes"', "no", False),
        ('a.b != "yes"', "no", True),
        ('a.b != "yes"', "yes", False),
        ("a.b >= 0.5", 0.5, True),
        ("a.b > 0.5", 0.5, False),
        ("a.b<1", 0.5, True),
        ("a.b <= -1e-3", 0, False),
        ('a.b in ["x", "y"]', "y", True),
        ('a.b in ["x", "y"]', "z", False),
        ("a.b == true", True, True),
        ("a.b == 1", True, False),  # to Python 1 == True
        ("a.b == true", 1, False),
        ("a.b == 1", 1.0, True),
        ("a.b == null", None, True),
        ('a.b == "a == b"', "a == b", True),  # an operator inside the literal
        ('a.b == "in"', "in", True),
        ('a.input == "x"', "x", True),  # `in` inside a name
    ],
)
def test_what_holds(text: str, value: object, holds: bool) -> None:
    assert parse_condition(text).holds(value) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.b",
        'a.b = "yes"',
        "a.b == yes",
        "a.b == 'yes'",
        'a.b == "yes" and c == 1',
        "a.b == __import__('os')",
        'a.b < "x"',
        "a.b < true",
        "a.b in []",
        'a.b in "abc"',
        "a.b == [1]",
        "a.b in [[1]]",
        "a.b == {}",
        "a.*.b == 1",
        "a..b == 1",
        "A.b == 1",
        "a.b == NaN",
        "a.b < Infinity",
        "not a.b == 1",
        "a.b == " + "[" * 50_000,
        "a.b == " + "1" * 5_000,
    ],
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ValueError, match=r"reference|condition|literal|wants|orders|compares|about one"):
        parse_condition(text)


@pytest.mark.parametrize("value", ["0.5", None, True, [1], {}])
def test_an_order_is_asked_of_numbers_only(value: object) -> None:
    with pytest.raises(TypeError, match="orders numbers"):
        parse_condition("a.b > 0").holds(value)


@given(st.sampled_from([o for o in OPERATORS if o in ("==", "!=")]), LITERALS)
def test_a_condition_survives_being_written_and_read(operator: str, literal: object) -> None:
    import json

    first = parse_condition(f"a.b {operator} {json.dumps(literal)}")
    assert parse_condition(str(first)) == first


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_value_error(text: str) -> None:
    try:
        parse_condition(text)
    except ValueError:
        return
