"""release-6: reports, a card and a library's page in a real browser, at two widths, in light and dark.

    make demo .venv-browser && .venv/bin/python -m tests.benchmarks.pages [--browser chromium] [--keep FOLDER]

The pages are those of `make demo`: the report of its release, the report of the same release damaged and only
read, one report over both, its card, and the page of a library that holds it. Markdown is shown as the Hub
shows it: in one column, tables that scroll on their own. Each page is judged by axe-core, and by whether
anything is wider than the screen. Screenshots are kept for people to look at: no script can do that for them.
"""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.evidence import ROOT, record
from zoo.cli import run

PACKAGES = ROOT / ".venv-browser"
DEMO = ROOT / "build" / "demo"
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}
GRAVE = ("serious", "critical")
# One column of text with the Hub's proportions; nothing here hides what a card does wrong.
MARKDOWN = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; --page: #fff; --text: #1b1f24; --link: #0b57d0; }}
@media (prefers-color-scheme: dark) {{ :root {{ --page: #0d1117; --text: #e6edf3; --link: #8ab4f8; }} }}
a {{ color: var(--link); }}
body {{ background: var(--page); color: var(--text); max-width: 48rem; margin: 0 auto; padding: 1rem;
font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: anywhere; }} img {{ max-width: 100%; }}
.scroll {{ overflow-x: auto; overflow-wrap: normal; }}
th, td {{ padding: .3rem .6rem; text-align: left; }}
</style></head><body><main>{body}</main></body></html>"""


def pages(work: Path) -> Iterator[tuple[str, Path]]:
    """Names and files of the pages, made from what `make demo` left.

    Raises:
        RuntimeError: nothing is there.
    """
    if not (DEMO / "report.json").is_file():
        raise RuntimeError("make demo first: its release is what is looked at")
    library = work / "library"
    shutil.copytree(DEMO / "release", library / "relevance")
    broken = work / "broken"
    shutil.copytree(DEMO / "release", broken)
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for folder, out, more in (
        (DEMO / "release", work / "passed.html", ["--output", str(work / "passed.html")]),
        (broken, work / "failed.html", ["--output", str(work / "failed.html"), "--static"]),
    ):
        run(["validate", str(folder), "--quiet", *more])
        yield f"report {out.stem}", out
    both = [str(DEMO / "release"), str(broken), "--output", str(work / "library.html")]
    run(["validate", *both, "--static", "--quiet"])
    yield "report library", work / "library.html"
    run(["card", str(library / "relevance"), "--write"])
    run(["card", str(library), "--library", "--write"])
    yield "card", markdown_page(library / "relevance" / "README.md")
    yield "library", markdown_page(library / "README.md")


def markdown_page(path: Path) -> Path:
    """The page that shows a Markdown file, beside it so that its pictures are found."""
    from markdown_it import MarkdownIt

    text = path.read_text(encoding="utf-8")
    if text.startswith("---\n"):
        text = text.split("\n---\n", 1)[1]
    body = MarkdownIt("commonmark").enable("table").render(text)
    for tag in ("table", "pre"):  # as the Hub wraps them
        body = body.replace(f"<{tag}>", f'<div class="scroll" tabindex="0" role="group"><{tag}>')
        body = body.replace(f"</{tag}>", f"</{tag}></div>")
    out = path.with_suffix(".html")
    out.write_text(MARKDOWN.format(title=path.parent.name, body=body), encoding="utf-8")
    return out


def look(browser: Any, path: Path, width: str, scheme: str, picture: Path) -> dict[str, Any]:
    """One page in one window: axe's findings by impact, how far it is too wide, and its picture."""
    from axe_playwright_python.sync_playwright import Axe

    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    context = browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True)
    try:
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(path.resolve().as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = Axe().run(page).response
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture, full_page=True)
        return {
            "grave": [
                f"{one['id']}: {one['help']} ({len(one['nodes'])}, such as {one['nodes'][0]['html'][:120]})"
                for one in found["violations"]
                if one["impact"] in GRAVE
            ],
            "small": [one["id"] for one in found["violations"] if one["impact"] not in GRAVE],
            "impacts": Counter(one["impact"] for one in found["violations"]),
            "rules": len(found["passes"]) + len(found["violations"]),
            "too_wide": page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            ),
            "broken_pictures": page.evaluate("[...document.images].filter(one => !one.naturalWidth).length"),
            "console": said,
        }
    finally:
        context.close()


def windows(program: str, keep: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """What `look` found in every window, by page, width and scheme; and the browser's version."""
    from playwright.sync_api import sync_playwright

    seen: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="pages-") as name, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for page, path in pages(Path(name)):
            for width in WIDTHS:
                for scheme in ("light", "dark"):
                    title = f"{page}, {width}, {scheme}"
                    picture = keep / f"{title.replace(', ', '-').replace(' ', '-')}.png"
                    seen[title] = look(browser, path, width, scheme, picture)
                    print(title, seen[title])
        version = browser.version
        browser.close()
    return seen, version


def main() -> None:
    """Looks at every page in every window and records release-6."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--browser", default="chromium", help="a Chromium, by name or path")
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "pages", help="where the pictures go")
    options = parser.parse_args()
    sys.path.append(str(PACKAGES))
    program = shutil.which(options.browser)
    if program is None:
        raise RuntimeError(f"{options.browser} is not installed; name a Chromium with --browser")
    seen, version = windows(program, options.keep)
    value = {
        "windows": len(seen),
        "rules_that_applied": max(one["rules"] for one in seen.values()),
        "findings": dict(sum((one["impacts"] for one in seen.values()), Counter[str]())),
        "serious_or_critical": [f"{title}: {one}" for title in seen for one in seen[title]["grave"]],
        "wider_than_the_screen": [title for title in seen if seen[title]["too_wide"] > 0],
        "broken_pictures": sum(one["broken_pictures"] for one in seen.values()),
        "said_on_the_console": sorted({text for one in seen.values() for text in one["console"]}),
        "chromium": version,
    }
    record(
        "release",
        "release-6",
        "three reports, a card and a library's page in a real browser, at phone and desktop width, in light "
        "and dark: what axe-core finds, what is wider than the screen, pictures that do not load",
        value,
        bar="axe: no serious finding; nothing wider than the screen; every picture loads",
        met=not (value["serious_or_critical"] or value["wider_than_the_screen"] or value["broken_pictures"]),
        ratio_of="nothing: findings are counted",
        command="make demo .venv-browser && .venv/bin/python -m tests.benchmarks.pages",
        note="every section is unfolded first; that the screenshots are readable is judged by people",
    )


if __name__ == "__main__":
    main()
