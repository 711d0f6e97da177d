"""`python -m zoo.validators.conformance.vectors ENGINE`: runs the vectors on an engine.

Exit codes: 0 it agrees, or deviates as known (1 with --strict); 1 it deviates otherwise; 2 usage; 3 nothing
was run, or an answer is missing; 4 a defect in zoo.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from zoo.errors import NotFoundError, ZooError
from zoo.progress import silent
from zoo.validators.conformance.vectors.case import Group, read_groups
from zoo.validators.conformance.vectors.opening import names, run_on
from zoo.validators.conformance.vectors.table import render_json, render_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the vectors as the command line says; the exit code."""
    asked = _parser().parse_args(arguments)
    _hush()
    try:
        report = run_on(
            asked.engine,
            _chosen(asked.group),
            tolerance=asked.tolerance,
            dtype=asked.dtype,
            device=asked.device,
            progress=_shown if sys.stderr.isatty() else silent,
        )
    except ZooError as error:
        sys.stderr.write(f"zoo: {error}\n")
        return error.exit_code
    sys.stdout.write(render_json(report) if asked.json else render_table(report, everything=asked.all))
    return report.exit_code(strict=asked.strict)


def _chosen(wanted: list[str]) -> tuple[Group, ...] | None:
    """The groups of these names; None for all."""
    if not wanted:
        return None
    groups = read_groups()
    known = [group.name for group in groups]
    if unknown := [name for name in wanted if name not in known]:
        raise NotFoundError(
            f"no group of vectors is called {unknown[0]!r}", hint=f"known are {', '.join(known)}"
        )
    return tuple(group for group in groups if group.name in wanted)


def _shown(stage: str, *, done: int, total: int, note: str = "") -> None:
    """One line on stderr, written over again."""
    sys.stderr.write(f"\r\033[K{stage} {done}/{total} {note}" if done < total else "\r\033[K")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zoo.validators.conformance.vectors",
        description="Run the vectors of the aLoRA rule on an engine.",
        allow_abbrev=False,
    )
    parser.add_argument("engine", metavar="ENGINE", help=", ".join(names()))
    parser.add_argument(
        "--group", metavar="NAME", action="append", default=[], help="only this file; repeatable"
    )
    parser.add_argument("--tolerance", type=_positive, metavar="NATS", help="of a log-probability; 0.001")
    parser.add_argument("--strict", action="store_true", help="a known deviation is a failure too")
    parser.add_argument("--all", action="store_true", help="a line for every vector")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--device", default="cpu", help="of an engine on torch")
    return parser


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _hush() -> None:
    """Keeps the libraries' own bars and notices off stderr."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")


if __name__ == "__main__":
    sys.exit(main())
