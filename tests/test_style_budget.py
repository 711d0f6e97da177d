import ast
from pathlib import Path
from statistics import median

import pytest

from tests.source_tree import modules

MODULE_LINES = 400
MEDIAN_MODULE_LINES = 150
FUNCTION_LINES = 50
COMMAND_LINES = 80

Function = ast.FunctionDef | ast.AsyncFunctionDef

MODULES = dict(modules())


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def body_lines(function: Function, *, is_command: bool) -> int:
    """From `def` to the end, without the docstring: explaining must cost nothing.

    A command's parameters are not counted either. They are the table of its options, typer wants them
    there, and the whole file has a budget of its own.
    """
    assert function.end_lineno is not None
    first = function.body[0]
    begin = first.lineno if is_command else function.lineno
    lines = function.end_lineno - begin + 1
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def long_functions(source: str, *, commands: bool = False) -> dict[str, int]:
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            lines = body_lines(node, is_command=commands and not node.name.startswith("_"))
            if lines > FUNCTION_LINES:
                found[node.name] = lines
    return found


def test_no_module_is_too_long() -> None:
    long = {name: count for name, path in MODULES.items() if (count := line_count(path)) > MODULE_LINES}
    assert not long


def test_the_median_module_is_short() -> None:
    counts = [line_count(path) for path in MODULES.values() if path.name != "__init__.py"]
    assert median(counts) < MEDIAN_MODULE_LINES


def test_every_command_file_is_short() -> None:
    commands = {name: path for name, path in MODULES.items() if name.startswith("zoo.cli.")}
    assert commands
    long = {name: count for name, path in commands.items() if (count := line_count(path)) >= COMMAND_LINES}
    assert not long


def test_no_function_is_too_long() -> None:
    long = {}
    for name, path in MODULES.items():
        if found := long_functions(path.read_text(), commands=name.startswith("zoo.cli.")):
            long[name] = found
    assert not long


@pytest.mark.parametrize(("lines", "flagged"), [(FUNCTION_LINES, False), (FUNCTION_LINES + 1, True)])
def test_the_function_budget_counts_code_and_not_the_docstring(lines: int, flagged: bool) -> None:
    docstring = '    """What it does.\n' + "    More.\n" * 30 + '    """\n'
    source = "def f():\n" + docstring + "    x = 1\n" * (lines - 1)
    assert bool(long_functions(source)) is flagged


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "misc", "common", "registry"}
    assert not [name for name in MODULES if set(name.split(".")) & empty]
