"""The page of a library: a table of its adapters, made from their locks."""

from collections.abc import Sequence
from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.cards.card import recorded_report
from zoo.cards.markdown import cell, code, table
from zoo.cards.record import CardRecord, read_record
from zoo.errors import NotFoundError, ZooError
from zoo.layouts import placements
from zoo.render.verdict import headline

_HEADER = ["Adapter", "Version", "Base model", "Invocation", "Accuracy", "n", "Checked", "Licence"]


def render_library(root: Path) -> str:
    """The README of a library folder, byte-stable for the same content.

    An adapter that cannot be read has its row too, and says so: a table that leaves it out would look whole.

    Args:
        root: a folder in one of the library layouts.

    Raises:
        NotFoundError: no such folder, or no adapter in it.
    """
    places = placements(root)
    if not places:
        raise NotFoundError(f"{root} holds no adapter", hint="give a folder that holds adapter folders")
    rows = [_row(one.folder, root) for one in places]
    bases = sorted({row[2] for row in rows if row[2]})
    said = "adapter" if len(rows) == 1 else "adapters"
    named = ", ".join(bases) or "no known base"
    return (
        f"# {cell(root.absolute().name)}\n\n"
        f"{len(rows)} activated LoRA {said} for {named}. Each acts from its invocation on, so that "
        "what stands before it is read once, by the base model, for all of them.\n\n"
        f"{table(_HEADER, rows, right=(4, 5))}\n\n"
        "Accuracy is that on held-out samples, as the adapter's lock records it, beside n of them; empty "
        "where nobody measured. *Checked* is the verdict of the recorded validation. This page is generated "
        "by alora-zoo.\n"
    )


def _row(folder: Path, root: Path) -> Sequence[str]:
    place = folder.relative_to(root).as_posix()
    try:
        repo = AdapterRepo.open(folder)
        report = recorded_report(repo)
        record = read_record(repo, None)
        checked = headline(report) if report and _current(record, report.digest) else "not recorded"
    except ZooError as error:
        return [
            f"[{cell(place)}]({_link(place)})",
            "",
            "",
            "",
            "",
            "",
            f"**unreadable**: {cell(error.message)}",
            "",
        ]
    release, own = record.release, record.behaviour.own_accuracy
    return [
        f"[{cell(release.name)}]({_link(place)})",
        release.version,
        code(release.base.id),
        code(release.invocation.text),
        f"{own:.3f}" if own is not None else "",
        f"{record.behaviour.samples:,}" if own is not None else "",
        checked if checked == "passed" else f"**{checked}**",
        cell(release.license),
    ]


def _current(record: CardRecord, digest: str) -> bool:
    from zoo.provenance import folder_digest

    return digest == folder_digest(record.files)


def _link(place: str) -> str:
    from urllib.parse import quote

    return quote(place) if place != "." else "."
