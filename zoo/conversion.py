"""Conversion of any LoRA checkpoint into an aLoRA release, in two stages.

Structural, always: read, refuse or fold exactly, give it an invocation, write the release folder. The result
computes the source's update from the invocation on, and is honestly marked unverified: a LoRA learnt to see
adapted keys and values of the whole prompt, and does not work on the base's by relabelling alone.
Behavioural, with data: distil the original LoRA into the folded weights, and measure on held-out data.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from zoo.converters.fold import Folded, fold
from zoo.converters.invocation import decide
from zoo.converters.plan import ConversionPlan
from zoo.converters.planning import resolve_base, summarise
from zoo.converters.readers import read_checkpoint
from zoo.converters.readers.legacy import Boundary
from zoo.converters.release_folder import write_release
from zoo.converters.source import Source
from zoo.errors import NotFoundError, UsageError
from zoo.models import BaseModel, Dtype
from zoo.progress import Progress, silent
from zoo.prompts import Prompter
from zoo.specs.lock import BehaviourRecord, ConversionRecord
from zoo.specs.release import Position
from zoo.staging import check_target, staged_folder

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.distil import DistilSettings, Recovery

NEXT_UNVERIFIED = "zoo convert … --recover DATA.jsonl   (distil and measure), then zoo validate {folder}"


class PlanOptions(TypedDict, total=False):
    """What the user may say about a conversion; every key may be left out.

    Attributes:
        base: the base model; the one that the adapter names when left out.
        invocation_text: what activates the result; left out for a source that has an invocation.
        position: where it goes in a prompt; found out from the chat template when left out.
        name: of the release; the layout's intrinsic name when left out.
        version: semantic version; 0.1.0 when left out.
        license: SPDX identifier, lower case; apache-2.0 when left out.
        description: for people.
        legacy_boundary: how the `alora` package's boundary is read; exclusive when left out.
        initial: the adapter as it was before training, for inits that change the base weights.
    """

    base: BaseModel | str
    invocation_text: str
    position: Position | None
    name: str
    version: str
    license: str
    description: str
    legacy_boundary: Boundary
    initial: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A conversion that was carried out.

    Attributes:
        folder: the release folder.
        plan: what was done.
        fold_error: largest relative Frobenius error of a folded module.
        behaviour: what was measured; status `unverified` without recovery.
    """

    folder: Path
    plan: ConversionPlan
    fold_error: float
    behaviour: BehaviourRecord

    def lines(self) -> list[str]:
        """What came out, for people, one fact a line; the plan's own lines are not repeated."""
        head = [f"fold error  {self.fold_error:.1e} (largest relative Frobenius error of a module's update)"]
        measured = self.behaviour
        if measured.status == "unverified":
            return [
                *head,
                "behaviour   UNVERIFIED: a LoRA that is only relabelled may not work; nobody measured it",
                f"next        {NEXT_UNVERIFIED.format(folder=self.folder)}",
            ]
        columns = [f"{name} {value:.3f}" for name, value in measured.accuracy.items()]
        agreed = [f"{name} {value:.3f}" for name, value in measured.agreement.items()]
        trivial = "" if measured.trivial is None else f", commonest answer {measured.trivial:.3f}"
        return [
            *head,
            f"measured on {measured.samples} samples that were not trained on",
            f"agreement   with the teacher LoRA: {', '.join(agreed)}",
            f"accuracy    {', '.join(columns)}{trivial}",
            f"next        zoo validate {self.folder}",
        ]

    def to_document(self) -> dict[str, Any]:
        """The conversion as plain data."""
        return {
            "folder": str(self.folder),
            "plan": self.plan.to_document(),
            "fold_error": self.fold_error,
            "behaviour": self.behaviour.model_dump(mode="json"),
        }


def plan_conversion(source: Path | str, **options: Unpack[PlanOptions]) -> ConversionPlan:
    """Reads and checks everything a conversion needs, and writes nothing.

    Args:
        source: an adapter folder, or a library folder with one adapter.
        **options: see `PlanOptions`.

    Raises:
        NotFoundError: no such path, or no adapter there.
        UsageError: the base or the invocation is missing or contradictory.
        SpecError: ZC001, an unreadable config; or a bad name, version or licence.
        RefusedError: ZV…, it cannot become an aLoRA; ZI004, the invocation does not occur in prompts.
        BaseMissingError: the base cannot be had here.
    """
    opened = Source.open(Path(source))
    wanted = options.get("base", "")
    base = wanted if isinstance(wanted, BaseModel) else resolve_base(opened, wanted)
    checkpoint = read_checkpoint(opened, base, initial=options.get("initial"))
    invocation, notes = decide(
        checkpoint,
        Prompter(base),
        text=options.get("invocation_text", ""),
        position=options.get("position"),
        boundary=options.get("legacy_boundary", Boundary.EXCLUSIVE),
    )
    checkpoint = replace(checkpoint, notes=(*checkpoint.notes, *notes))
    about = {key: options[key] for key in ("name", "version", "license", "description") if options.get(key)}
    return summarise(checkpoint, base, invocation, about)


def convert(
    source: Path | str,
    out: Path | str,
    *,
    recover: Path | str | None = None,
    settings: "DistilSettings | None" = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
    **options: Unpack[PlanOptions],
) -> Conversion:
    """Plans a conversion and carries it out; raises what `plan_conversion` and `apply` raise.

    Args:
        source: an adapter folder, or a library folder with one adapter.
        out: the release folder to make; must not exist, or be empty.
        recover: JSONL data to distil the source's behaviour on; None for the structural stage alone.
        settings: of the distillation; its defaults when None.
        device: torch device of the distillation.
        dtype: of the base weights in the distillation.
        progress: told about long work.
        **options: see `PlanOptions`.
    """
    check_target(Path(out))  # before any work
    plan = plan_conversion(source, **options)
    return apply(
        plan,
        out,
        recover=recover,
        settings=settings,
        device=device,
        dtype=dtype,
        progress=progress,
    )


def apply(
    plan: ConversionPlan,
    out: Path | str,
    *,
    recover: Path | str | None = None,
    settings: "DistilSettings | None" = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Conversion:
    """Carries a plan out; see `convert` for the arguments.

    Raises:
        NotFoundError: there is no such data file.
        UsageError: `out` is not empty, or `recover` is given for a source that is an aLoRA already.
        RefusedError: ZV021, a fold is not exact.
    """
    target = Path(out)
    check_target(target)
    if recover and plan.checkpoint.invocation:
        raise UsageError(
            f"{plan.checkpoint.folder.name} is an aLoRA already: there is no LoRA teacher to recover",
            hint="leave --recover out; zoo train continues an aLoRA on data",
        )
    if recover and not Path(recover).is_file():
        raise NotFoundError(f"{recover} does not exist", hint="give a JSONL file of messages and answers")
    folded = fold(plan.checkpoint, plan.base.linears, progress=progress)
    recovery = None
    if recover:
        with _relabelled(plan, folded) as relabelled:
            recovery = _recover(plan, relabelled, Path(recover), settings, device, dtype, progress)
    with staged_folder(target) as stage:
        _write(stage, plan, folded, recovery)
    behaviour = recovery.behaviour if recovery else BehaviourRecord()
    return Conversion(folder=target, plan=plan, fold_error=folded.fold_error, behaviour=behaviour)


def _recover(
    plan: ConversionPlan,
    relabelled: Path,
    data: Path,
    settings: "DistilSettings | None",
    device: str,
    dtype: Dtype,
    progress: Progress,
) -> "Recovery":
    from zoo.training.distil import recover

    return recover(
        base=plan.base,
        relabelled=relabelled,
        invocation=plan.invocation,
        data=data,
        settings=settings,
        device=device,
        dtype=dtype,
        progress=progress,
    )


@contextmanager
def _relabelled(plan: ConversionPlan, folded: Folded) -> Iterator[Path]:
    """The structural release in a folder that goes away: student's start and teacher's weights."""
    with tempfile.TemporaryDirectory(prefix="zoo-relabelled-") as name:
        folder = Path(name)
        _write(folder, plan, folded, None)
        yield folder


def _write(stage: Path, plan: ConversionPlan, folded: Folded, recovery: "Recovery | None") -> None:
    weights: Mapping[str, Tensor] = recovery.weights if recovery else folded.weights
    write_release(
        stage,
        weights=weights,
        rank=next(tensor.shape[0] for name, tensor in weights.items() if ".lora_A." in name),
        targets=folded.targets,
        spec=plan.spec,
        base=plan.base,
        invocation_ids=plan.invocation.ids,
        conversion=ConversionRecord(
            source_format=plan.checkpoint.format,
            source_files=dict(plan.checkpoint.digests),
            steps=plan.steps(),
            fold_error=folded.fold_error,
        ),
        training=recovery.training if recovery else None,
        behaviour=recovery.behaviour if recovery else None,
    )
