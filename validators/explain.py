"""The page of every code: what it means, why it matters, how to fix it, where the rule comes from."""

from collections.abc import Mapping
from pathlib import Path

from zoo.errors import NotFoundError

PAGES = Path(__file__).parent / "pages"


def titles() -> Mapping[str, str]:
    """The title of every page by code, sorted: `ZF001` is called "The folder holds …"."""
    found = {}
    for path in sorted(PAGES.glob("Z*.md")):
        with path.open(encoding="utf-8") as stream:
            found[path.stem] = stream.readline().removeprefix(f"# {path.stem}:").strip()
    return found


def page(code: str) -> str:
    """The page of one code, as Markdown that reads well as it is.

    Args:
        code: in any case.

    Raises:
        NotFoundError: there is no such code; the hint names those that look like it.
    """
    wanted = code.strip().upper()
    known = titles()
    if wanted in known:
        return (PAGES / f"{wanted}.md").read_text(encoding="utf-8")
    from difflib import get_close_matches

    near = get_close_matches(wanted, known, n=3, cutoff=0.5)
    raise NotFoundError(
        f"there is no code {code[:40]!r}",
        hint=f"did you mean {', '.join(near)}?" if near else "zoo explain lists all codes",
    )
