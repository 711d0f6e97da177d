"""A report as GitHub Actions workflow commands: one annotation a finding."""

from zoo.render.figures import evaluations, interval
from zoo.report import Crashed, Report, Severity, Skipped

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render_github(report: Report, *, root: str = "") -> str:
    """Annotations for findings, skipped checks, crashes and measured answers; empty where there is none.

    Args:
        report: what to show.
        root: path of the adapter folder from the repository's root, so that annotations land on files.

    Source: GitHub's documentation of workflow commands; the escapes are those of actions/toolkit.
    """
    lines = []
    for result, finding in report.findings():
        place = finding.location
        where = {"title": f"{result.code} {result.title}"}
        if place:
            where["file"] = f"{root}/{place.file}" if root else place.file
            if place.line:
                where["line"] = str(place.line)
        text = f"{finding.message}. {finding.fix}" if finding.fix else finding.message
        lines.append(_command(_COMMANDS[finding.severity], where, text))
    for result in report.results:
        title = {"title": f"{result.code} {result.title}"}
        match result.outcome:
            case Skipped(reason=reason) if result.code not in report.allowed_skips:
                lines.append(_command("warning", title, f"not checked: {reason}"))
            case Crashed(error=error):
                lines.append(_command("error", title, f"the check itself failed: {error}"))
            case _:
                pass
    for result, found in evaluations(report):
        said = "; ".join(f"{one.name} {interval(one)}" for one in found if one.ends())
        lines.append(_command("notice", {"title": f"{result.code} {result.title}"}, said))
    return "".join(f"{line}\n" for line in lines)


def _command(name: str, properties: dict[str, str], text: str) -> str:
    shown = ",".join(f"{key}={_escape(value, ':,')}" for key, value in properties.items())
    return f"::{name} {shown}::{_escape(text)}"


def _escape(text: str, also: str = "") -> str:
    escaped = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    for character in also:
        escaped = escaped.replace(character, f"%{ord(character):02X}")
    return escaped
