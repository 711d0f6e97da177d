"""A measured value with an interval, in every form."""

import json

import pytest

from zoo.render.figures import Figure, evaluations, figures, interval
from zoo.render.github import render_github
from zoo.render.html import render_html
from zoo.render.junit import render_junit
from zoo.render.markdown import render_markdown
from zoo.render.sarif import render_sarif
from zoo.report import Finding, Flagged, NotApplicable, Outcome, Passed, Report, Result

MEASURED: dict[str, float | int | str] = {
    "relevance balanced_accuracy": 0.9,
    "relevance balanced_accuracy_low": 0.82,
    "relevance balanced_accuracy_high": 0.95,
    "relevance difference": -0.1,
    "relevance difference_low": -0.18,
    "relevance difference_high": -0.02,
    "relevance trivial": 0.5,
    "relevance sha256": "0" * 64,
}


def report(outcome: Outcome) -> Report:
    results = [Result(code="ZG008", title="Its answers are no worse", outcome=outcome)]
    return Report(subject="a", digest="0" * 64, results=results)


PASSED = report(Passed(measured=MEASURED))
FLAGGED = report(Flagged(findings=[Finding(message="worse")], measured=MEASURED))


def test_ends_belong_to_their_value() -> None:
    found = {one.name: one for one in figures(MEASURED)}
    assert list(found) == [
        "relevance balanced_accuracy",
        "relevance difference",
        "relevance trivial",
        "relevance sha256",
    ]
    assert interval(found["relevance balanced_accuracy"]) == "0.900 [0.820, 0.950]"
    assert interval(found["relevance difference"]) == "-0.100 [-0.180, -0.020]"
    assert interval(found["relevance trivial"]) == ""


def test_a_name_that_only_looks_like_an_end_stays_a_value() -> None:
    assert [one.name for one in figures({"bits_low": 3, "a": 1, "a_low": 0.5})] == ["bits_low", "a", "a_low"]
    texts = figures({"a": "x", "a_low": "y", "a_high": "z"})
    assert [one.name for one in texts] == ["a", "a_low", "a_high"]


def test_bars_lie_within_their_line() -> None:
    assert Figure(name="x", value=0.9, low=0.8, high=1.2).bar() == pytest.approx((90, 80, 100))
    assert Figure(name="x difference", value=0.0, low=-0.5, high=0.5).bar() == pytest.approx((50, 25, 75))
    assert Figure(name="x", value=0.9).bar() is None


@pytest.mark.parametrize("shown", [PASSED, FLAGGED], ids=["passed", "flagged"])
def test_every_form_shows_it(shown: Report) -> None:
    for render in (render_markdown, render_html, render_junit):
        text = render(shown).replace("\\", "")
        assert "0.900 [0.820, 0.950]" in text, render.__name__
        assert "-0.100 [-0.180, -0.020]" in text, render.__name__
    notice = [line for line in render_github(shown).splitlines() if line.startswith("::notice")]
    assert len(notice) == 1
    assert "0.900 [0.820, 0.950]" in notice[0]
    run = json.loads(render_sarif(shown))["runs"][0]
    assert run["properties"]["measured"]["ZG008"] == MEASURED


def test_a_page_draws_the_interval_where_it_is() -> None:
    page = render_html(PASSED)
    assert "left: 82.0%; width: 13.0%" in page
    assert 'style="left: 90.0%"' in page
    assert "left: 41.0%; width: 8.0%" in page  # of a line from -1 to 1
    assert 'id="asked"' not in render_html(report(Passed(measured={"trivial": 0.5})))


def test_what_has_no_interval_is_no_evaluation() -> None:
    assert not list(evaluations(report(NotApplicable(reason="x"))))
    assert not render_github(report(Passed(measured={"samples": 3})))
