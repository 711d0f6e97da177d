"""`zoo schema`: the JSON Schema of a file that people write."""

from typing import Annotated, Literal

import typer

Document = Annotated[
    Literal["io", "release", "flow", "gate"],
    typer.Argument(metavar="NAME", help="io (io.yaml), release (zoo.yaml), flow (flow.yaml), gate."),
]
Comment = Annotated[
    bool,
    typer.Option("--yaml-comment", help="Print the line that tells an editor where the schema is instead."),
]


def schema(name: Document = "io", yaml_comment: Comment = False) -> None:
    """Print the JSON Schema of io.yaml, zoo.yaml, flow.yaml or zoo-gate.yaml, for editors and other programs.

    Save it beside the file, and put the line that --yaml-comment prints at the file's top: editors with the
    YAML language server then complete and check it.

        zoo schema io > io.schema.json
    """
    from zoo.specs.io_file import EDITOR_LINE
    from zoo.specs.published import schema_text

    typer.echo(f"{EDITOR_LINE}{name}.schema.json" if yaml_comment else schema_text(name), nl=yaml_comment)
