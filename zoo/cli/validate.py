"""`zoo validate`: every check on adapter folders, and the verdict."""

import typer

from zoo.cli import options as o


def validate(
    paths: o.Adapters = None,
    library: o.Library = None,
    base: o.Base = "",
    static: o.Static = False,
    replay: o.Replay = False,
    engine: o.Engines = None,
    gguf: o.Gguf = "",
    tokenizer_env: o.TokenizerEnvs = None,
    output: o.Output = None,
    as_json: o.AsJson = False,
    record: o.Record = False,
    prompts: o.Prompts = 5,
    device: o.Device = "cpu",
    dtype: o.Dtype = "float32",
    attention: o.Attention = "",
    quiet: o.Quiet = False,
) -> None:
    """Check adapter folders; nothing in them is changed, unless --record says so.

    Several adapters share one base, which is loaded once and reads each prompt once.

    Exit codes: 0 fine, 1 something is wrong, 2 usage, 3 something was not checked, 4 a defect in zoo. With
    --static the checks that need torch are left out, which alone does not make the exit code 3; it also takes
    a project before training (zoo init), of which it checks contract and invocation.
    """
    from zoo.cli.progress import shown
    from zoo.cli.reporting import render_all, run_one
    from zoo.render.suffix import check_outputs, own_paths, write_outputs, write_together
    from zoo.render.verdict import tally
    from zoo.report import worst_exit_code
    from zoo.validators.library import chosen_folders, validations
    from zoo.validators.record import prepare
    from zoo.validators.record import record as record_evidence
    from zoo.validators.validate import Settings

    outputs, several = output or [], bool(library) or len(paths or []) > 1
    check_outputs(outputs)
    folders = chosen_folders(paths or [], library or [], static=static)
    settings = Settings(
        base=base,
        static=static,
        replay=replay,
        engines=tuple(engine or ()),
        engine_options={"gguf": gguf} if gguf else {},
        tokenizer_envs=tuple(tokenizer_env or ()),
        prompts=prompts,
        device=device,
        dtype=dtype,
        attention=attention,
    )
    reports, codes = [], []
    with shown(quiet=quiet or static) as progress:
        for validation in validations(folders, settings, progress=progress):
            repo = validation.context.repo
            if record and (said := prepare(validation.context)):
                typer.echo(f"zoo: {said}", err=True)
            reports.append(run_one(validation, as_json=as_json, several=several))
            codes.append(validation.exit_code(reports[-1]))
            write_outputs(reports[-1], own_paths(outputs, reports[-1]) if several else outputs)
            if record:
                record_evidence(repo, reports[-1])
    if several:
        write_together(reports, outputs)
    if as_json:
        typer.echo(render_all(reports, several=several), nl=False)
    elif several:
        typer.echo(f"\n── {tally(reports)}")
    raise typer.Exit(worst_exit_code(codes))
