"""What is rarely changed of how weights are optimised, in one option of `zoo train`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe",
        metavar="NAME=VALUE",
        help="warmup (steps, 10), decay (cosine or constant), clip (1.0), weight_decay (0), check_every and "
        "save_every (steps, 10 and 20). Repeatable.",
    ),
]


def _decay(text: str) -> str:
    if text not in ("cosine", "constant"):
        raise ValueError(text)
    return text


def _from(least: float, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def read_number(text: str) -> Any:
        value = kind(text)
        if not least <= value < float("inf"):
            raise ValueError(text)
        return value

    return read_number


_READ: Mapping[str, Callable[[str], Any]] = {
    "warmup": _from(0, int),
    "decay": _decay,
    "clip": _from(1e-12, float),
    "weight_decay": _from(0, float),
    "check_every": _from(1, int),
    "save_every": _from(1, int),
}


def read(given: Sequence[str] | None) -> dict[str, Any]:
    """Fields of `zoo.training.optimise.Recipe` from `NAME=VALUE`.

    Raises:
        UsageError: ZD006, a name that is not known, given twice, or a value that it cannot have.
    """
    from zoo.errors import UsageError

    found: dict[str, Any] = {}
    for pair in given or ():
        name, _, text = (part.strip() for part in pair.partition("="))
        try:
            if name in found:
                raise ValueError(name)
            found[name] = _READ[name](text)
        except (KeyError, ValueError):
            raise UsageError(
                f"--recipe {pair}: {'is given twice' if name in found else 'is no setting'}",
                hint=f"names are {', '.join(_READ)}; see zoo train --help",
                code="ZD006",
            ) from None
    return found


def names(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())
