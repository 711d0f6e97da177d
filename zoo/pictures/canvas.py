"""The canvas of every picture: readable on a phone and on a dark page, the same bytes for the same numbers.

A picture carries a digest of the numbers it was drawn from. A card shows it only as long as those are the
release's numbers: a picture of an earlier measurement would contradict the table beside it.
"""

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.provenance import sha256_bytes

if TYPE_CHECKING:
    from pydantic import BaseModel

MISSING = "not drawn: matplotlib is not installed (pip install 'alora-zoo[plot]')"
INK, QUIET, OWN, MARK = "#1f2328", "#57606a", "#0a5cb8", "#a04100"  # each at least 4.5:1 on white
WIDTH_INCHES, DPI = 6.0, 160  # 960 points: letters of 12 points are 10 high where a phone shows 360
_KEY = "zoo:numbers"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEAD_BYTES = 64 << 10  # the text stands before the pixels


def digest(record: "BaseModel") -> str:
    """The digest of a lock's record, the same before it was written and after it was read again."""
    return sha256_bytes(json.dumps(record.model_dump(mode="json"), sort_keys=True).encode())


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def canvas(height: float, *, rows: int = 1, shared: bool = False) -> tuple[Any, list[Any]]:
    """A figure and its axes, one below the other.

    Args:
        height: inches.
        rows: how many axes.
        shared: whether they have one x axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # white also on a dark page: transparent, its letters would be lost on one of the two
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)  # drawn in memory: no window, no display
    axes: Any = figure.subplots(rows, 1, sharex=shared, squeeze=False)[:, 0]
    for axis in axes:
        axis.tick_params(colors=INK, labelsize=11)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axis.spines[side].set_color(QUIET)
        axis.grid(alpha=0.25)
        axis.xaxis.label.set_size(12)
        axis.yaxis.label.set_size(12)
    return figure, list(axes)


def title(axis: Any, text: str) -> None:
    """A title, of which a long one is cut."""
    axis.set_title(text if len(text) <= 60 else f"{text[:59]}…", color=INK, fontsize=13, loc="left")


def save(figure: Any, path: Path, *, numbers: str) -> None:
    """Writes the picture as PNG.

    Args:
        figure: of `canvas`.
        path: the file.
        numbers: digest of what it was drawn from.
    """
    # matplotlib's own name and version would change the file where no point of the picture changes
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None, _KEY: numbers})


def numbers_of(path: Path) -> str:
    """The digest that a picture carries; empty where it carries none, or is no picture."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return ""
    at = len(_SIGNATURE)
    if not head.startswith(_SIGNATURE):
        return ""
    while at + 8 <= len(head):
        (size,) = struct.unpack_from(">I", head, at)
        kind, content = head[at + 4 : at + 8], head[at + 8 : at + 8 + size]
        key, _, text = content.partition(b"\0")
        if kind == b"tEXt" and key == _KEY.encode():
            return text.decode("latin-1")
        if kind == b"IDAT":
            break
        at += 12 + size
    return ""
