"""`zoo convert`: any LoRA checkpoint into an aLoRA release folder."""

from zoo.cli import compose_options as c
from zoo.cli import convert_options as o
from zoo.cli.converting import carry_out
from zoo.cli.options import AsJson, Base, Device, DryRun, Dtype, EvalData, Invocation, Quiet


def convert(
    paths: c.Paths,
    base: Base = "",
    invocation: Invocation = "",
    position: o.Place = None,
    name: o.Name = "",
    version: o.Version = "0.1.0",
    license_: o.License = "apache-2.0",
    description: o.Description = "",
    legacy_boundary: o.LegacyBoundary = "exclusive",
    initial: o.Initial = None,
    max_error: o.MaxError = None,
    alpha: o.Alpha = None,
    extract: o.Extract = None,
    concat: c.Concat = False,
    weights: c.Weights = "",
    truncate: c.Truncate = "",
    grow: c.Grow = None,
    project_safe: c.ProjectSafe = "",
    aligned: c.Aligned = "",
    unaligned: c.Unaligned = "",
    safe_modules: c.SafeModules = "",
    recover: o.Recover = None,
    requests: o.Requests = None,
    recover_samples: o.RecoverSamples = 256,
    eval_data: EvalData = None,
    io: o.Io = None,
    recover_steps: o.RecoverSteps = 100,
    recover_lr: o.RecoverRate = 0.0,
    recover_batch: o.RecoverBatch = 8,
    recover_optimizer: o.RecoverOptimizer = "adamw",
    recover_patience: o.RecoverPatience = 10,
    label_weight: o.LabelWeight = 0.0,
    teacher_top_k: o.TeacherTopK = 0,
    margin: o.Margin = 0.05,
    calibrate: o.Calibrate = False,
    control: o.Control = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Turn a LoRA into an aLoRA: fold it exactly; with --recover DATA also make it work, and measure it."""
    from zoo.conversion import plan_conversion
    from zoo.converters.changes import Changes
    from zoo.converters.readers.legacy import Boundary
    from zoo.specs.release import Position
    from zoo.training.distil_settings import DistilSettings

    places = c.places(paths, concat=concat, dry_run=dry_run)
    safe = {"safe": project_safe, "aligned": aligned, "unaligned": unaligned, "select": safe_modules}
    changes = Changes.parse(truncate=truncate, grow=grow, outputs=calibrate, **safe)
    plan = plan_conversion(
        places.source, also=places.also, weights=weights, base=base,
        invocation_text=invocation, position=Position(position) if position else None,
        legacy_boundary=Boundary(legacy_boundary), initial=initial,
        max_error=max_error, alpha=alpha, extract=extract, cut=o.cut(recover, grow),
        name=name, version=version, license=license_, description=description,
    )  # fmt: skip
    settings = DistilSettings.of(
        steps=recover_steps, eval_data=eval_data, learning_rate=recover_lr, batch=recover_batch,
        optimizer=recover_optimizer, patience=recover_patience, label_weight=label_weight,
        teacher_top_k=teacher_top_k, margin=margin, calibrate=calibrate, control=control,
    )  # fmt: skip
    carry_out(
        plan, None if dry_run else places.out, changes, as_json=as_json, quiet=quiet, io=io, recover=recover,
        requests=requests, samples=recover_samples, settings=settings, device=device, dtype=dtype,
    )  # fmt: skip
