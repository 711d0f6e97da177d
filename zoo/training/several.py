"""Several adapters trained on shared conversations: what their prompts begin with is run once for all.

Each adapter is trained as it would be alone, with its own draw of samples, its own optimiser and its own best
step; the base model, the stored prefixes and the base's part of every step are shared. Which groups are held
out is drawn once over all data, so that no adapter is measured on a conversation that another's training has
seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import LOCK_NAME, AdapterRepo
from zoo.errors import UsageError
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.specs.release import Position, ReleaseSpec
from zoo.staging import check_target
from zoo.training import tracking
from zoo.training.checkpoint import restore_threads
from zoo.training.factors import Factors
from zoo.training.fit import Member, Run, Stores, fit_together
from zoo.training.initial import initialise
from zoo.training.joint import joinable
from zoo.training.peers import claimed_together, peers_here
from zoo.training.plan import TrainingPlan, TrainSettings, plan_training
from zoo.training.project import Project
from zoo.training.record import identity
from zoo.training.train import Trained, finish, new_adapter, release_spec, train_adapter

if TYPE_CHECKING:
    from peft import PeftModel

MARK = "{adapter}"
TOGETHER = ".together"  # folder of an unfinished run of several; no adapter is called so


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralPlans:
    """What would be trained.

    Attributes:
        plans: by adapter name, in the order they are trained.
    """

    plans: Mapping[str, TrainingPlan]

    @property
    def tokens(self) -> tuple[int, int]:
        """Prefix tokens of all training samples, and how many of them are run."""
        from zoo.training.segments import tree_of

        prefixes = [sample.prefix for plan in self.plans.values() for sample in plan.parts.train]
        return sum(map(len, prefixes)), sum(len(segment.ids) for segment in tree_of(prefixes).segments)

    def lines(self) -> list[str]:
        """The plans for people, a line a fact."""
        every, run = self.tokens
        each = [f"{name}: {line}" for name, plan in self.plans.items() for line in plan.lines()]
        return [*each, f"shared       {run:,} of {every:,} prefix tokens are run, the others are the same"]

    def to_document(self) -> dict[str, Any]:
        """The plans as plain data."""
        every, run = self.tokens
        return {
            "adapters": {name: plan.to_document() for name, plan in self.plans.items()},
            "prefix_tokens": every,
            "prefix_tokens_run": run,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SeveralTrained:
    """Finished trainings.

    Attributes:
        adapters: by name; one that an earlier run had finished is not among them.
        finished: names of those.
    """

    adapters: Mapping[str, Trained]
    finished: Sequence[str]

    def lines(self) -> list[str]:
        """The results for people, a line a fact."""
        kept = [f"{name}: finished before" for name in self.finished]
        return [*kept, *(f"{name}: {line}" for name, done in self.adapters.items() for line in done.lines())]

    def to_document(self) -> dict[str, Any]:
        """The results as plain data."""
        return {
            "adapters": {name: done.to_document() for name, done in self.adapters.items()},
            "finished": list(self.finished),
        }


def plan_several(
    data: Path | str,
    names: Sequence[str],
    *,
    invocation_text: str = "",
    base: str = "",
    position: Position | None = None,
    settings: TrainSettings | None = None,
    projects: Mapping[str, Project] | None = None,
) -> SeveralPlans:
    """Reads, splits and tokenises the data of several adapters; no torch.

    Args:
        data: one JSONL whose lines have `adapter`, or a name with `{adapter}` in it: a file an adapter.
        names: of the adapters.
        invocation_text: what activates each; `{adapter}` stands for its name. Its project's when left out, as
            the next two.
        base: what `zoo.models.resolve` takes.
        position: where the invocation stands.
        settings: of every adapter.
        projects: what the author wrote about each, by its name.

    Raises:
        UsageError: ZD006, a name given twice, a plain LoRA, or projects for different base models.
        ZooError: see `plan_training`.
    """
    settings = settings or TrainSettings()
    if len(set(names)) < len(names):
        raise UsageError("--adapters has a name twice", hint="each names one adapter", code="ZD006")
    if settings.kind == "lora":
        raise UsageError(
            "plain LoRAs act on the prefix, so several cannot share it",
            hint="train them one by one, or with --kind alora",
            code="ZD006",
        )
    paths = {name: Path(str(data).replace(MARK, name)) for name in names}
    pooled = tuple(dict.fromkeys(paths.values()))
    plans = {
        name: plan_training(
            paths[name],
            invocation_text=invocation_text.replace(MARK, name),
            base=base,
            position=position,
            settings=_own(settings, name),
            adapter="" if len(pooled) > 1 else name,
            eval_adapter="" if MARK in str(settings.data.eval_data) else name,
            pooled=pooled,
            project=(projects or {}).get(name),
        )
        for name in names
    }
    _check_one_base(plans.values())
    return SeveralPlans(plans=plans)


def train_several(
    data: Path | str,
    out: Path | str,
    names: Sequence[str],
    *,
    about: Mapping[str, str],
    device: str = "cpu",
    dtype: Dtype = "float32",
    tracker: tracking.Name | None = None,
    disk: Path | None = None,
    progress: Progress = silent,
    **what: Any,
) -> SeveralTrained:
    """Trains several aLoRAs on shared prefixes and writes a release folder for each.

    A killed run is resumed by calling it again with the same arguments: adapters whose folder is there are
    finished and left alone, if they were trained with these arguments.

    Args:
        data: see `plan_several`.
        out: folder in which the release folders are made, each by its adapter's name.
        names: of the adapters.
        about: version, license and description of every release; what is empty is its project's.
        device: torch device.
        dtype: of the base weights.
        tracker: an experiment tracker.
        disk: see `train`.
        progress: told about each stage.
        what: the other arguments of `plan_several`.

    Raises:
        UsageError: ZD004, a folder that is there was trained with other settings or data.
        ZooError: see `plan_several` and `train`.
    """
    root = Path(out).absolute()
    if tracker:
        tracking.check_tracker(tracker)
    plans = plan_several(data, names, **what).plans
    specs = {
        name: release_spec(plan, about, Path(str(data).replace(MARK, name)).name, name=name)
        for name, plan in plans.items()
    }
    peers = peers_here(device)
    with claimed_together(root, peers) as work:
        done = [name for name in names if (root / name / LOCK_NAME).is_file()]
        for name in done:
            _check_same(root / name, plans[name], dtype=dtype, device=device)
        left = [name for name in names if name not in done]
        for name in left:
            check_target(root / name)
        begun = [name for name in names if (work / TOGETHER / name).is_dir()]
        for folder in (*(work / name for name in left), *(work / TOGETHER / name for name in begun)):
            restore_threads(folder)
        model = new_adapter(plans[names[0]], device=peers.device(device), dtype=dtype)
        # of all adapters, finished ones too: what is packed together decides how sums are rounded
        stores = Stores.together(model, plans, peers, disk=disk)
        run = Run(device=device, dtype=dtype, tracker=tracker, progress=progress, peers=peers)
        library = _Library(
            model=model, plans=plans, stores=stores, specs=specs, root=root, work=work, run=run
        )
        beside = [name for name in names if name in left or name in begun]
        if len(beside) > 1 and tracker != "trackio" and joinable(stores[beside[0]].train):
            trained = library.side_by_side(beside, left)
        else:
            trained = {name: library.alone(name) for name in left}
    return SeveralTrained(adapters=trained, finished=done)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Library:
    """What is trained, on what, and where it goes."""

    model: "PeftModel"
    plans: Mapping[str, TrainingPlan]
    stores: Mapping[str, Stores]
    specs: Mapping[str, ReleaseSpec]
    root: Path
    work: Path
    run: Run

    def alone(self, name: str) -> Trained:
        """Trains one adapter after another."""
        self._fresh(name)
        return train_adapter(
            self.model, self.plans[name], self.stores[name], spec=self.specs[name],
            target=self.root / name, work=self.work / name, run=self._run(name),
        )  # fmt: skip

    def side_by_side(self, names: Sequence[str], left: Sequence[str]) -> dict[str, Trained]:
        """Trains adapters together, and writes those that are not there yet."""
        members = {}
        for name in names:
            self._fresh(name)
            members[name] = Member(
                plan=self.plans[name],
                stores=self.stores[name],
                factors=Factors(self.model),
                progress=self._run(name).progress,
            )
        done = fit_together(members, folder=self.root, work=self.work / TOGETHER, run=self.run)
        trained = {}
        for name in left:
            members[name].factors.put()
            trained[name] = finish(
                self.model, self.plans[name], self.stores[name], done[name], spec=self.specs[name],
                target=self.root / name, run=self._run(name),
            )  # fmt: skip
        return trained

    def _fresh(self, name: str) -> None:
        settings = self.plans[name].settings
        initialise(self.model, settings.init, seed=settings.recipe.seed, shared_a=settings.shared_a)

    def _run(self, name: str) -> Run:
        return replace(self.run, progress=_named(self.run.progress, name))


def _check_one_base(plans: Iterable[TrainingPlan]) -> None:
    """Shared prefixes are one base model's."""
    bases = {(plan.base.id, plan.base.revision, plan.base.folder): plan.base for plan in plans}
    if len(bases) > 1:
        named = " and ".join(f"{base.id}@{base.revision}".rstrip("@") for base in bases.values())
        raise UsageError(
            f"the adapters' projects are for different base models: {named}",
            hint="train those of one base together, or say which one with --base",
            code="ZD006",
        )


def _check_same(folder: Path, plan: TrainingPlan, *, dtype: Dtype, device: str) -> None:
    """A folder that is there is finished only if it is what would be trained."""
    lock = AdapterRepo.open(folder).lock
    there = dict(lock.training.settings) if lock and lock.training else {}
    wanted = {**identity(plan, dtype, device), "recipe": asdict(plan.settings.recipe)}
    changed = sorted(key for key, value in wanted.items() if there.get(key) != value)
    if changed:
        raise UsageError(
            f"{folder} is of a training with another {', '.join(changed)}",
            hint="name another output folder, or move what is there away to train it anew",
            code="ZD004",
        )


def _own(settings: TrainSettings, name: str) -> TrainSettings:
    """Settings whose evaluation data is this adapter's."""
    if settings.data.eval_data is None:
        return settings
    path = Path(str(settings.data.eval_data).replace(MARK, name))
    return replace(settings, data=replace(settings.data, eval_data=path))


def _named(progress: Progress, name: str) -> Progress:
    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        progress(f"{name}, {stage}", done=done, total=total, note=note)

    return told
