"""Options that several commands share, spelt once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

PositionName = Literal["after_prompt", "generation_prompt", "in_message"]
Adapter = Annotated[
    Path, typer.Argument(metavar="PATH", help="Adapter folder, or a library folder with one adapter.")
]
Base = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="BASE",
        help="Base model: org/name[@revision] on the Hub, a folder, or smollm2-135m-instruct (embedded).",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Torch device: cpu, cuda, cuda:1, …")]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option("--dtype", help="Dtype of the base weights.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
EvalData = Annotated[
    Path | None, typer.Option(metavar="DATA", help="Measure on this, not on a part of the data.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]

# ---------------------------------------------------------------- zoo validate

Adapters = Annotated[
    list[Path] | None, typer.Argument(metavar="PATH...", help="Adapter folders; a library with one adapter.")
]
Library = Annotated[
    list[Path] | None,
    typer.Option("--library", metavar="DIR", help="Every adapter below this folder; repeatable."),
]
Static = Annotated[bool, typer.Option("--static", help="Only what needs no torch: seconds, not minutes.")]
Replay = Annotated[bool, typer.Option("--replay", help="Only the conformance vectors that came with it.")]
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Also write the report: .json .xml .sarif .md .html; many."
    ),
]
Record = Annotated[
    bool, typer.Option("--record", help="Write conformance vectors, and the report into zoo.lock.json.")
]
Engines = Annotated[
    list[str] | None,
    typer.Option("--engine", metavar="NAME", help="Try it in this engine too (zoo engines); repeatable."),
]
Gguf = Annotated[str, typer.Option("--gguf", metavar="FILE", help="The base as GGUF, for llama-server.")]
TokenizerEnvs = Annotated[
    list[str] | None,
    typer.Option(
        "--tokenizer-env",
        metavar="PYTHON",
        help="Another environment's Python must tokenise alike; repeatable.",
    ),
]


def newlines(text: str) -> str:
    """What was typed, a backslash and n as the newline that a shell makes hard to type."""
    return text.replace("\\n", "\n")


Invocation = Annotated[
    str,
    typer.Option(metavar="TEXT", callback=newlines, help=r"What activates it; \n is a newline."),
]
Prompts = Annotated[int, typer.Option(min=1, max=64, help="Prompts to run the dynamic checks on.")]
Attention = Annotated[str, typer.Option(help="Attention implementation: sdpa, eager, flash_attention_2, …")]
