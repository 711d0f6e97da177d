"""Whether a card is still the one that follows from the release."""

from difflib import unified_diff
from pathlib import Path

from zoo.errors import VerdictError
from zoo.specs.document import read_bounded

SHOWN = 12  # lines of a difference


def check_card(path: Path, wanted: str) -> None:
    """Compares a card with what it should be.

    Args:
        path: the card.
        wanted: the text that follows from the release.

    Raises:
        VerdictError: ZH013, it differs, with the first lines of the difference; or it is missing.
    """
    if not path.is_file():
        raise VerdictError(f"{path} is missing", hint="zoo card --write", code="ZH013")
    present = read_bounded(path).decode("utf-8", "replace")
    if present == wanted:
        return
    lines = unified_diff(
        present.splitlines(), wanted.splitlines(), path.name, "what follows", n=0, lineterm=""
    )
    shown = "\n".join(list(lines)[:SHOWN])
    raise VerdictError(
        f"{path} is not what follows from the release:\n{shown}",
        hint="zoo card --write; what people should add stands in NOTES.md",
        code="ZH013",
    )
