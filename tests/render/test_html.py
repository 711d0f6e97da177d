"""The HTML page: it says all that the report says, needs nothing else, and runs nothing of a stranger's."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.render.reports import FULL, HOSTILE, with_results
from zoo.render.html import render_html
from zoo.render.json import from_document, render_json
from zoo.render.suffix import write_outputs
from zoo.report import Finding, Flagged, Passed, Report, Result

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Tags that were opened and never closed, what is loaded from elsewhere, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def page(report: Report) -> Page:
    parsed = Page()
    parsed.feed(render_html(report))
    assert parsed.open == []
    return parsed


def test_everything_that_a_report_says_is_on_the_page() -> None:
    text = page(FULL).text
    for result in FULL.results:
        assert result.code in text
        assert result.title in text
    for said in (
        "no network",
        "go online",
        "nobody has a GPU",
        "KeyError: 'x'",
        "train again",
        "adapter_config.json:7",
    ):
        assert said in text
    assert text.index("Findings") < text.index("Not checked") < text.index("Every check")


def test_the_page_loads_and_runs_nothing() -> None:
    parsed = page(FULL)
    assert not {tag for tag, _ in parsed.tags} & {"script", "img", "link", "iframe", "object", "form"}
    assert not any(
        name in ("src", "href") or name.startswith("on") for _, attrs in parsed.tags for name in attrs
    )
    policies = [
        attrs["content"] for _, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


@pytest.mark.parametrize(
    "text", [HOSTILE, '"><script>alert(1)</script>', "</style><script>", "{{ 7 * 7 }}", "&lt;b&gt;"]
)
def test_a_strangers_text_is_shown_as_it_is_and_nothing_else(text: str) -> None:
    report = Report(
        subject=text,
        digest="0" * 64,
        results=[
            Result(code="ZF001", title=text, outcome=Flagged(findings=[Finding(message=text, fix=text)]))
        ],
        environment={text: text},
    )
    plain = page(replace(report, subject="a", results=[replace(report.results[0], title="b")]))
    parsed = page(report)
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in plain.tags]
    assert "\x1b" not in parsed.text
    assert "\u202e" not in parsed.text
    shown = text if text.isprintable() else "<script>"
    assert parsed.text.count(shown) >= 4
    assert "49" not in parsed.text


@pytest.mark.parametrize(
    ("codes", "status"),
    [
        (("ZX001",), "passed"),
        (("ZX001", "ZX006"), "accepted"),
        (("ZX005",), "incomplete"),
        (("ZX002",), "failed"),
    ],
)
def test_the_verdict_heads_the_page(codes: tuple[str, ...], status: str) -> None:
    parsed = page(with_results(*codes))
    assert [attrs["class"] for tag, attrs in parsed.tags if tag == "section"] == [f"verdict {status}"]


def test_measured_shares_become_bars() -> None:
    measured = Passed(measured={"samples": 40, "accuracy_base": 0.5, "accuracy_recovered": 0.925})
    parsed = page(
        Report(subject="a", digest="0" * 64, results=[Result(code="ZB001", title="x", outcome=measured)])
    )
    bars = [attrs["style"] for _, attrs in parsed.tags if attrs.get("class") == "bar"]
    assert bars == ["width: 50.0%", "width: 92.5%"]
    assert "40 samples" in parsed.text


def test_it_is_written_by_its_suffix(tmp_path: Path) -> None:
    write_outputs(FULL, [tmp_path / "report.html"])
    assert (tmp_path / "report.html").read_text() == render_html(FULL)


def test_what_was_measured_layer_by_layer_is_drawn_on_one_scale() -> None:
    found = {"own_by_layer": (0.0, 0.0), "others_by_layer": (0.5, 2.0)}
    result = Result(code="ZK001", title="The prefix KV", outcome=Passed(measured=found), seconds=0.1)
    report = from_document(json.loads(render_json(replace(FULL, results=[result]))))  # as read from a file
    parsed = page(report)
    bars = [
        attrs["style"]
        for tag, attrs in parsed.tags
        if tag == "span" and (attrs.get("style") or "").startswith("height")
    ]
    assert bars == ["height: 0.0%", "height: 0.0%", "height: 25.0%", "height: 100.0%"]
    assert "own by layer: 0 in each of 2 layers" in parsed.text
    assert "others by layer: up to 2, in layer 1 of 2" in parsed.text
    nothing = page(replace(FULL, results=[replace(result, outcome=Passed())]))
    assert "Layer by layer" not in nothing.text
