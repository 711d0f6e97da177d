"""Conversion of any LoRA checkpoint into an aLoRA release, in two stages.

Structural, always: read, refuse or fold exactly, give it an invocation, write the release folder. The result
computes the source's update from the invocation on, and is honestly marked unverified: a LoRA learnt to see
adapted keys and values of the whole prompt, and does not work on the base's by relabelling alone.
Behavioural, with data: distil the original LoRA into the folded weights, and measure on held-out data. What
has no exact low-rank form is cut for that, and distilled from what it was.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from zoo.adapter import IO_NAME
from zoo.converters.base_weights import StreamedBase, streamed
from zoo.converters.changes import Changes, change
from zoo.converters.checkpoint import ReadOptions
from zoo.converters.concat import concat, parse_weights
from zoo.converters.fold import Folded, fold
from zoo.converters.invocation import decide
from zoo.converters.plan import ConversionPlan
from zoo.converters.planning import PlanOptions, named_base, refuse_unused, resolve_base, summarise
from zoo.converters.readers import read_checkpoint
from zoo.converters.readers.extract import extract
from zoo.converters.readers.legacy import Boundary
from zoo.converters.release_folder import write_release
from zoo.converters.source import Source
from zoo.errors import UsageError
from zoo.evaluation.lines import behaviour_lines
from zoo.models import BaseModel, Dtype, resolve
from zoo.pictures.canvas import can_draw
from zoo.pictures.evaluation import EVALUATION_NAME, draw
from zoo.progress import Progress, silent
from zoo.prompts import Prompter
from zoo.specs.lock import BehaviourRecord, ChangeRecord, ConversionRecord, on_invented
from zoo.staging import check_target, staged_folder
from zoo.training.asked import AUTO, check_asked
from zoo.training.distil_settings import DistilSettings
from zoo.training.invention.record import invented_lines
from zoo.training.work import claimed_work

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.contract import Contract
    from zoo.training.distil import Recovery
    from zoo.training.invention.invention import InventionSettings
    from zoo.training.invention.samples import SampleRequests

NEXT_UNVERIFIED = "zoo convert … --recover DATA.jsonl   (distil and measure), then zoo validate {folder}"
CLOSER = (
    "closer      the same with --calibrate: where the base allows it, queries and outputs are fitted first"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A conversion that was carried out.

    Attributes:
        folder: the release folder.
        plan: what was done.
        fold_error: largest relative Frobenius error of a folded module.
        changes: what was done to the folded weights afterwards.
        behaviour: what was measured; status `unverified` without recovery.
        recovery: how it was recovered, or None.
    """

    folder: Path
    plan: ConversionPlan
    fold_error: float
    changes: tuple[ChangeRecord, ...] = ()
    behaviour: BehaviourRecord
    recovery: "Recovery | None" = None

    def lines(self) -> list[str]:
        """What came out, for people, one fact a line; the plan's own lines are not repeated."""
        head = [f"fold error  {self.fold_error:.1e} (largest relative Frobenius error of a module's update)"]
        head += [f"changed     {line}" for record in self.changes for line in record.lines]
        if self.behaviour.status == "unverified":
            return [
                *head,
                "behaviour   UNVERIFIED: a LoRA that is only relabelled may not work; nobody measured it",
                f"next        {NEXT_UNVERIFIED.format(folder=self.folder)}",
            ]
        made = invented_lines(self.recovery.training, self.behaviour) if self.recovery else []
        said = [*head, *made, *self._calibrated, *behaviour_lines(self.behaviour)]
        if self._may_come_closer:
            said.append(CLOSER)
        return [*said, f"next        zoo validate {self.folder}"]

    @property
    def _calibrated(self) -> list[str]:
        found = self.recovery.training.settings.get("calibration") if self.recovery else None
        if not found:
            return []
        tried = ", ".join(f"{way} {far:.4f}" for way, far in found["tried"].items())
        return [f"calibrated  {found['fitted']}; divergence on unseen prompts by what was fitted: {tried}"]

    @property
    def _may_come_closer(self) -> bool:
        """Whether the recovery is less than its LoRA, and was not calibrated."""
        compared = self.behaviour.comparison
        if compared is None or compared.verdict == "equivalent" or self.recovery is None:
            return False
        if self.plan.checkpoint.original:  # whose streams are not those of a LoRA on the same modules
            return False
        return "calibration" not in self.recovery.training.settings

    def to_document(self) -> dict[str, Any]:
        """The conversion as plain data."""
        return {
            "folder": str(self.folder),
            "plan": self.plan.to_document(),
            "fold_error": self.fold_error,
            "changes": [record.model_dump(mode="json") for record in self.changes],
            "behaviour": self.behaviour.model_dump(mode="json"),
            "recovery": self.recovery.to_document() if self.recovery else None,
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
    reading = ReadOptions(
        initial=options.get("initial"),
        max_error=options.get("max_error"),
        alpha=options.get("alpha"),
        cut=options.get("cut"),
    )
    wanted, rank = options.get("base", ""), options.get("extract")
    if rank is None:
        opened = Source.open(Path(source))
        base = wanted if isinstance(wanted, BaseModel) else _reached(opened, wanted)
        checkpoint = read_checkpoint(opened, base, reading)
    else:
        base = wanted if isinstance(wanted, BaseModel) else streamed(named_base(wanted))
        checkpoint = extract(Path(source), base, rank=rank)
    others = [read_checkpoint(Source.open(Path(other)), base, reading) for other in options.get("also", ())]
    refuse_unused(
        [one.format for one in (checkpoint, *others)],
        weights=options.get("weights", ""), alpha=options.get("alpha"), initial=options.get("initial"),
        boundary=options.get("legacy_boundary", Boundary.EXCLUSIVE),
    )  # fmt: skip
    if others:
        weights = parse_weights(options.get("weights", ""), 1 + len(others))
        checkpoint = concat([checkpoint, *others], weights)
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
    settings: DistilSettings | None = None,
    contract: "Contract | None" = None,
    invention: "InventionSettings | None" = None,
    requests: Path | None = None,
    changes: Changes | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
    **options: Unpack[PlanOptions],
) -> Conversion:
    """Plans a conversion and carries it out; raises what `plan_conversion` and `apply` raise.

    Args:
        source: an adapter folder, or a library folder with one adapter.
        out: the release folder to make; must not exist, or be empty.
        recover: JSONL data to distil the source's behaviour on; `auto` makes them, in a file beside `out`;
            None for the structural stage alone.
        settings: of the distillation; its defaults when None.
        contract: the adapter's `io.yaml`: makes the prompts of the data, judges replies, and goes into the
            release; None where the data's messages are the prompts.
        invention: how data are made, for `auto`.
        requests: what their requests are made like: see `SampleRequests.read`; those of the source's own
            `zoo.yaml` when None.
        changes: to make to the folded weights; recovery then starts from what they leave.
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
        contract=contract,
        invention=invention,
        requests=requests,
        changes=changes,
        device=device,
        dtype=dtype,
        progress=progress,
    )


def apply(
    plan: ConversionPlan,
    out: Path | str,
    *,
    recover: Path | str | None = None,
    settings: DistilSettings | None = None,
    contract: "Contract | None" = None,
    invention: "InventionSettings | None" = None,
    requests: Path | None = None,
    changes: Changes | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Conversion:
    """Carries a plan out; see `convert` for the arguments.

    Raises:
        UsageError: `out` is not empty.
        ZooError: see `check_recovery`.
        RefusedError: ZV021, a fold is not exact.
    """
    target = Path(out)
    check_target(target)
    check_recovery(plan, recover, settings=settings, contract=contract, requests=requests)
    samples = _samples(plan, requests) if str(recover) == AUTO else None
    if recover and isinstance(plan.base, StreamedBase):  # running it takes all of its weights
        plan = replace(plan, base=resolve(plan.base.id, revision=plan.base.revision))
    folded = fold(plan.checkpoint, plan.base.linears, keep=False, seen=plan.seen, progress=progress)
    wanted = changes or Changes()
    if recover and settings and settings.calibrate:
        wanted = replace(wanted, outputs=True)
    folded = change(folded, wanted, plan.base.linears, progress=progress)
    if not recover:
        return _release(target, plan, folded, contract)
    with claimed_work(target.absolute()) as work:
        with _relabelled(plan, folded) as relabelled:
            recovery = _recover(
                plan,
                relabelled,
                Path(recover),
                settings=settings or DistilSettings(),
                contract=contract,
                work=work,
                invented=target.with_name(f"{target.name}.invented.jsonl"),
                samples=samples,
                invention=invention,
                device=device,
                dtype=dtype,
                progress=progress,
            )
        return _release(target, plan, folded, contract, recovery)


def check_recovery(
    plan: ConversionPlan,
    recover: Path | str | None,
    *,
    settings: DistilSettings | None = None,
    contract: "Contract | None" = None,
    requests: Path | None = None,
) -> None:
    """Looks whether a recovery could begin; the arguments are those of `convert`.

    Raises:
        UsageError: the source is an aLoRA already.
        ZooError: see `check_asked` and `SampleRequests`.
    """
    if recover and plan.checkpoint.invocation:
        raise UsageError(
            f"{plan.checkpoint.folder.name} is an aLoRA already: there is no LoRA teacher to recover",
            hint="leave --recover out",
        )
    check_asked(recover, evaluation=settings.data.eval_data if settings else None, requests=requests,
                values=contract is not None, calibrate=bool(settings and settings.calibrate))  # fmt: skip
    if str(recover) == AUTO:
        _samples(plan, requests)


def _reached(source: Source, wanted: str) -> BaseModel:
    """The base, whose weights stay on the Hub until something in them is needed."""
    return streamed(resolve_base(source, wanted, weights=False))


def _samples(plan: ConversionPlan, requests: Path | None) -> "SampleRequests":
    from zoo.training.invention.samples import SampleRequests

    return SampleRequests.read(requests) if requests else SampleRequests.beside(plan.checkpoint.folder)


def _recover(
    plan: ConversionPlan,
    relabelled: Path,
    data: Path,
    *,
    invented: Path,
    samples: "SampleRequests | None",
    invention: "InventionSettings | None",
    settings: DistilSettings,
    **how: Any,
) -> "Recovery":
    """Distils on data that are there, or, with samples, on data made first in the file `invented`."""
    from zoo.training.distil import recover
    from zoo.training.invention.invention import invent

    how |= {"base": plan.base, "relabelled": relabelled, "invocation": plan.invocation}
    original = plan.checkpoint.original
    if samples is None:
        return recover(data=data, settings=settings, original=original, **how)
    made = invent(invented, samples=samples, settings=invention, original=original, **how)
    recovery = recover(data=made.path, settings=settings, original=original, **how)
    return replace(recovery, training=made.noted(recovery.training))


@contextmanager
def _relabelled(plan: ConversionPlan, folded: Folded) -> Iterator[Path]:
    """The student's start and teacher's weights as a structural release, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="zoo-relabelled-") as name:
        folder = Path(name)
        _write(folder, plan, folded, folded.weights)
        yield folder


def _release(
    target: Path,
    plan: ConversionPlan,
    folded: Folded,
    contract: "Contract | None",
    recovery: "Recovery | None" = None,
) -> Conversion:
    """Writes the folder of a finished conversion."""
    with staged_folder(target) as stage:
        if contract:
            (stage / IO_NAME).write_bytes(contract.content)
        _write(stage, plan, folded, recovery.weights if recovery else folded.weights, recovery)
    return Conversion(
        folder=target,
        plan=plan,
        fold_error=folded.fold_error,
        changes=folded.changes,
        behaviour=recovery.behaviour if recovery else BehaviourRecord(),
        recovery=recovery,
    )


def _write(
    stage: Path,
    plan: ConversionPlan,
    folded: Folded,
    weights: "Mapping[str, Tensor]",
    recovery: "Recovery | None" = None,
) -> None:
    if recovery and can_draw() and not on_invented(recovery.training, recovery.behaviour):
        draw(stage / EVALUATION_NAME, recovery.behaviour, name=plan.spec.name)
    write_release(
        stage,
        weights=weights,
        rank=folded.rank,
        targets=folded.targets,
        spec=plan.spec,
        base=plan.base,
        invocation_ids=plan.invocation.ids,
        conversion=lambda: ConversionRecord(  # the digests of the source may be still under way
            source_format=plan.checkpoint.format,
            source_files=dict(plan.checkpoint.digests),
            steps=plan.steps(),
            fold_error=folded.fold_error,
            changes=list(folded.changes),
        ),
        training=recovery.training if recovery else None,
        behaviour=recovery.behaviour if recovery else None,
    )
