"""Markdown pieces that keep their shape whatever text is put into them.

Text from an adapter folder is not trusted: it must not break out of a table, a code span or a code block.
"""

import json
import re
from collections.abc import Iterable, Sequence

from zoo.render.figures import in_words
from zoo.report import Value

# what begins a heading or a fence, or underlines one, at the head of a line, a quotation or a list's item
_LEADING = re.compile(
    r"^((?:[ \t>]|[-*+][ \t]+|\d+[.)][ \t]+)*)(#|```|~~~|=+[ \t]*$|-+[ \t]*$)", flags=re.MULTILINE
)


def cell(text: str) -> str:
    """Text as the content of one table cell: one line, no markup of its own."""
    line = " ".join(text.split())
    for mark in "\\|`*[":
        line = line.replace(mark, f"\\{mark}")
    return line.replace("<", "&lt;")


def code(text: str) -> str:
    """Text as a code span, with newlines and quotes spelt as in JSON; in a table a pipe would end it."""
    shown = json.dumps(text, ensure_ascii=False)[1:-1]
    ticks = "`" * (_longest_run(shown) + 1)
    pad = " " if shown[:1] in ("`", " ", "") or shown[-1:] in ("`", " ") else ""
    return f"{ticks}{pad}{shown}{pad}{ticks}"


def code_cell(text: str) -> str:
    """Text as a code span in a table, where a pipe ends a cell even between ticks.

    Source: GitHub Flavored Markdown 0.29, section 4.10, example 200.
    """
    return code(text).replace("|", "\\|")


def prose(text: str) -> str:
    """An author's paragraphs, whose marks stay but for those that could hide or imitate a section.

    That is an HTML tag or comment, a heading, and a fence, which swallow or head what follows them.
    """
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return _LEADING.sub(r"\1\\\2", text)


def block(text: str, language: str) -> str:
    """Text as a fenced code block."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table whose cells are already Markdown.

    Args:
        header: column titles.
        rows: cells, as many as there are titles.
        right: indices of the columns that are aligned right.
    """
    rule = ["--:" if index in right else "---" for index in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows])


def folded(title: str, text: str) -> str:
    """Markdown that a reader unfolds."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def image(path: str, alternative: str) -> str:
    """A picture that lies beside the card, and what it shows in words."""
    return f"![{cell(alternative).replace(']', chr(92) + ']')}]({path})"


def number(value: Value) -> str:
    """A measured value: whole numbers in full, others with three significant digits; layers in words."""
    if isinstance(value, tuple):
        return in_words(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else cell(value)


def _longest_run(text: str) -> int:
    longest = current = 0
    for character in text:
        current = current + 1 if character == "`" else 0
        longest = max(longest, current)
    return longest
