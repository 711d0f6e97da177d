"""The engines' table as text that fits any terminal, and as JSON."""

import textwrap
from collections.abc import Sequence
from typing import Any

from zoo.render.text import printable
from zoo.validators.conformance.engines.outlook import Row

INDENT = "  "


def render_table(rows: Sequence[Row], *, width: int) -> str:
    """One block an engine: a line that names it, then what it does, wrapped.

    Args:
        rows: from `outlook.rows`.
        width: columns of the terminal.
    """
    return "\n".join(_block(row, max(width, 30)) for row in rows)


def _block(row: Row, width: int) -> str:
    if row.installed:
        version = row.installed.version or "version unknown"
        head = f"{row.name}  {version}  ({printable(row.installed.place)})"
    elif row.install:
        head = f"{row.name}  not installed"
    else:
        head = f"{row.name}  not run by zoo"
    lines = [head, f"{row.convention.versions}: {row.convention.note or row.convention.behaviour.value}"]
    if row.outlook:
        lines.append(f"this adapter: {row.outlook.verdict}: {row.outlook.reason}")
    if row.convention.workaround:
        lines.append(f"keep its cache clean: {row.convention.workaround}")
    if not row.installed and row.install:
        lines.append(f"→ {row.install}")
    wrapped = [
        textwrap.fill(
            printable(line),
            width=width,
            initial_indent=INDENT if index else "",
            subsequent_indent=INDENT * (2 if index else 1),
            break_on_hyphens=False,
            break_long_words=False,
        )
        for index, line in enumerate(lines)
    ]
    return "\n".join(wrapped) + "\n"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain data; `adapter` only where one was asked about."""
    return [
        {
            "engine": row.name,
            "installed": row.installed is not None,
            "version": row.installed.version if row.installed else None,
            "place": row.installed.place if row.installed else None,
            "install": row.install,
            "alora": {
                "versions": row.convention.versions,
                "behaviour": row.convention.behaviour.name.lower(),
                "shift": row.convention.shift,
                "taints": sorted(history.name.lower() for history in row.convention.taints),
                "workaround": row.convention.workaround,
                "note": row.convention.note,
                "source": row.convention.source,
            },
            **(
                {"adapter": {"verdict": row.outlook.verdict, "reason": row.outlook.reason}}
                if row.outlook
                else {}
            ),
        }
        for row in rows
    ]
