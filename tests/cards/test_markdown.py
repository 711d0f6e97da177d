from zoo.cards.markdown import block, cell, code, number, table


def test_a_cell_stays_one_cell() -> None:
    hostile = "a|b\nc `d` <script> *e* [f](g) \\"
    row = table(["x", "y"], [[cell(hostile), "z"]]).splitlines()[-1]
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3
    assert "<" not in row


def test_code_spans_outlive_backticks() -> None:
    assert code("a") == "`a`"
    assert code("a`b") == "``a`b``"
    assert code("`a") == "`` `a ``"
    assert code("\n") == "`\\n`"
    assert code("") == "`  `"


def test_a_block_outlives_fences_in_it() -> None:
    assert block("x", "python") == "```python\nx\n```"
    assert block("```\nx", "").startswith("````\n")


def test_numbers() -> None:
    assert number(1234567) == "1,234,567"
    assert number(0.00012345) == "0.000123"
    assert number(3.0) == "3"
    assert number(1e-30) == "1e-30"
    assert number("a|b") == "a\\|b"
