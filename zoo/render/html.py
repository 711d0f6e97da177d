"""A report as one HTML page that needs nothing else: no script, no font, no network.

Every text may come from a stranger's file. The template escapes all of it, and the page forbids itself to
load or run anything (`Content-Security-Policy`), so that a name cannot become an action.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, assert_never

from zoo.render.figures import Figure, evaluations, figures, interval
from zoo.render.text import printable
from zoo.render.verdict import headline, holds, verdict, word
from zoo.report import Crashed, Flagged, NotApplicable, Outcome, Passed, Report, Result, Skipped

TEMPLATES = Path(__file__).parent
# What the letter of a code stands for; a family that is not named here is shown under its letters.
FAMILIES = {
    "ZF": "Files", "ZC": "Adapter configuration", "ZW": "Weights", "ZI": "Invocation", "ZM": "Release",
    "ZL": "Lock", "ZT": "Chat template", "ZO": "I/O contract", "ZB": "Behaviour",
    "ZR": "Reference forward pass", "ZK": "KV equivalence", "ZP": "PEFT", "ZS": "Shipped vectors",
    "ZE": "Engines", "ZX": "Engines and exports", "ZG": "Gate policy", "ZA": "Signature and bill",
}  # fmt: skip


_REPORT_IT = "report it: a defect in zoo"


def render_html(report: Report) -> str:
    """The page: verdict, findings, what was not checked, what was measured, every check by family."""
    status = headline(report)
    shares, samples = _shares(report)
    layers, top = _layers(report)
    return page(
        "report.html.j2",
        status=status,
        subject=printable(report.subject),
        digest=report.digest,
        sentence=printable(verdict(report).removeprefix(f"{status}: ")),
        counts=_counts(report),
        unchecked=_unchecked(report),
        findings=list(_findings(report)),
        shares=shares,
        samples=samples,
        evaluations=_evaluations(report),
        layers=layers,
        top=_number(top),
        families=_families(report),
        environment=[(printable(name), printable(said)) for name, said in report.environment.items()],
    )


def page(template: str, **values: Any) -> str:
    """A page from a template of this folder, every value escaped; the same bytes for the same values."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=False, loader=FileSystemLoader(TEMPLATES)
    )
    return environment.get_template(template).render(**values) + "\n"


def _counts(report: Report) -> list[tuple[int, str]]:
    failed = len({result.code for result, finding in report.findings() if finding.severity.value == "error"})
    kinds = Counter(type(result.outcome) for result in report.results)
    return [
        (sum(holds(result) for result in report.results), "hold"),
        (failed, "failed"),
        (kinds[Skipped], "not checked"),
        (kinds[NotApplicable], "not applicable"),
        *([(kinds[Crashed], "crashed")] if kinds[Crashed] else []),
    ]


def _unchecked(report: Report) -> list[dict[str, Any]]:
    """What was skipped, the checks with one reason together."""
    groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for result in report.results:
        if isinstance(result.outcome, Skipped):
            allowed = report.allowed_skips.get(result.code, "")
            why = (result.outcome.reason, result.outcome.hint, allowed)
            groups.setdefault(why, []).append((result.code, printable(result.title)))
    return [
        {
            "reason": printable(reason),
            "hint": printable(hint),
            "allowed": printable(allowed),
            "checks": checks,
        }
        for (reason, hint, allowed), checks in groups.items()
    ]


def _findings(report: Report) -> Iterator[dict[str, str]]:
    for result in report.results:
        if isinstance(result.outcome, Crashed):
            said = printable(result.outcome.error)
            yield {"code": result.code, "kind": "crash", "message": said, "place": "", "fix": _REPORT_IT}
    found = report.findings()
    for severity in ("error", "warning", "info"):
        for result, finding in found:
            if finding.severity.value == severity:
                place = finding.location
                line = f":{place.line}" if place and place.line else ""
                pointer = f" {place.pointer}" if place and place.pointer else ""
                yield {
                    "code": result.code,
                    "kind": severity,
                    "message": printable(finding.message),
                    "place": printable(f"{place.file}{line}{pointer}") if place else "",
                    "fix": printable(finding.fix),
                }


def _shares(report: Report) -> tuple[list[tuple[str, float]], int]:
    """Accuracy and agreement by column, as ZB001 measured them, and of how many samples."""
    measured = report.measured().get("ZB001", {})
    samples = measured.get("samples", 0)
    shares = [
        (printable(name.replace("_", " ")), float(value))
        for name, value in measured.items()
        if isinstance(value, int | float) and name != "samples" and 0 <= value <= 1
    ]
    return shares, int(samples) if isinstance(samples, int | float) else 0


def _families(report: Report) -> list[dict[str, Any]]:
    grouped: dict[str, list[Result]] = {}
    for result in report.results:
        grouped.setdefault(result.code[:2], []).append(result)
    return [
        {
            "title": FAMILIES.get(letters, letters),
            "said": _tally(results),
            "open": not all(holds(one) or isinstance(one.outcome, NotApplicable) for one in results),
            "rows": [_row(one) for one in results],
        }
        for letters, results in grouped.items()
    ]


def _tally(results: list[Result]) -> str:
    return ", ".join(f"{count} {said}" for said, count in Counter(map(word, results)).items())


def _row(result: Result) -> dict[str, str]:
    return {
        "code": result.code,
        "title": printable(result.title),
        "word": word(result),
        "measured": printable(_measured(result.outcome)),
        "seconds": f"{result.seconds:.2f}",
    }


def _measured(outcome: Outcome) -> str:
    match outcome:
        case Passed(measured=measured) | Flagged(measured=measured):
            return ", ".join(f"{one.name} = {_figure(one)}" for one in figures(measured))
        case Skipped(reason=reason) | NotApplicable(reason=reason):
            return reason
        case Crashed(error=error):
            return error
        case _ as unreachable:
            assert_never(unreachable)


def _evaluations(report: Report) -> list[dict[str, Any]]:
    """What the gate measured by asking, with intervals to draw."""
    return [
        {
            "code": result.code,
            "title": printable(result.title),
            "rows": [
                {
                    "name": printable(one.name.rpartition(" ")[2].replace("_", " ")),
                    "said": printable(_figure(one)),
                    "bar": one.bar(),
                    "signed": one.signed,
                }
                for one in found
                if one.name.rpartition(" ")[2] != "sha256"
            ],
        }
        for result, found in evaluations(report)
    ]


def _layers(report: Report) -> tuple[list[dict[str, Any]], float]:
    """What was measured layer by layer, all on one scale, and the top of that scale."""
    found = [
        (result, one)
        for result in report.results
        if isinstance(result.outcome, Passed | Flagged)
        for one in figures(result.outcome.measured)
        if one.layers
    ]
    top = max((max(one.layers) for _, one in found), default=0.0)
    drawn = [
        {
            "code": result.code,
            "title": printable(result.title),
            "said": printable(f"{_spoken(one.name)}: {_figure(one)}"),
            "bars": [100 * value / (top or 1.0) for value in one.layers],
        }
        for result, one in found
    ]
    return drawn, top


def _spoken(name: str) -> str:
    return " ".join({"kv": "KV", "lora": "LoRA"}.get(word, word) for word in name.split("_"))


def _figure(figure: Figure) -> str:
    return interval(figure) or _number(figure.value)


def _number(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
