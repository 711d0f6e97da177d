"""ZG006 to ZG008: a frozen sample, what the adapter answers to it, and what the published version answers.

Everything is measured here and now with the adapter's own files, so that the verdict does not rest on what a
lock says. A bound is kept or broken only where the whole 95 % interval says so.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from zoo.adapter import IO_NAME, AdapterRepo
from zoo.ci.published import Published
from zoo.errors import NotFoundError, UndecidedError
from zoo.evaluation.asking import Asked, ask
from zoo.evaluation.intervals import Interval, of_difference, of_mean, wilson_interval
from zoo.evaluation.sample import strata
from zoo.evaluation.verdict import plain, signed
from zoo.prompts import Invocation
from zoo.report import Finding
from zoo.specs.policy import POLICY_NAME, Regression, Suite
from zoo.training.contract import Contract
from zoo.training.dataset import Dataset, Sample, read_dataset
from zoo.validators.check import Check, Context, Measurement, Need

Said = Iterator[Finding | Measurement]
LOADS = ("ZP001",)  # an adapter that PEFT does not load as what it is answers nothing
MOST = 1_000_000  # samples that are worth suggesting
_MORE = "ask more samples: zoo sample DATA OUT --samples N, and its new sha256 in the policy"


@dataclass(kw_only=True)
class Bench:
    """One suite, one adapter, and what was measured.

    Attributes:
        suite: of the policy.
        name: the adapter's.
        regression: what the policy demands against the published version, or None.
        published: finds that version.
    """

    suite: Suite
    name: str
    regression: Regression | None
    published: Callable[[], Published]
    _own: Asked | None = field(default=None, repr=False)

    @cached_property
    def data(self) -> Dataset:
        """The data file.

        Raises:
            ZooError: see `read_dataset`.
        """
        return read_dataset(Path(self.suite.data), values=True)

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """Those of its samples that are for this adapter."""
        return [one for one in self.data.samples if one.adapter in ("", self.name)]

    def own(self, context: Context) -> Asked:
        """What the adapter answers, asked once."""
        if self._own is None:
            self._own = self._ask(context, context.repo, context.invocation, label="evaluate")
        return self._own

    def before(self, context: Context) -> Asked:
        """What the published version answers.

        Raises:
            UndecidedError: it is for another base.
        """
        found = self.published()
        repo = found.open()
        release, mine = repo.release, context.repo.release
        if release is None or mine is None or release.base != mine.base:
            raise UndecidedError(
                f"{found.where} is for another base: the two cannot be asked side by side",
                hint=f"allow ZG008 to be skipped once, with the reason, in {POLICY_NAME}",
            )
        ids = tuple(repo.config.alora_invocation_tokens or ())
        spec = release.invocation
        invocation = Invocation(text=spec.text, ids=ids, position=spec.position)
        return self._ask(context, repo, invocation, label="published")

    def _ask(self, context: Context, repo: AdapterRepo, invocation: Invocation, *, label: str) -> Asked:
        rig = context.bases.rigs.of(
            context.known_base,
            dtype=context.dtype,
            device=context.device,
            attention=context.attention,
            progress=context.progress,
        )
        path = repo.root / IO_NAME
        try:
            return ask(
                rig.attach(repo),
                self.samples,
                context.prompter,
                invocation,
                contract=Contract.read(path) if path.is_file() else None,
                metric=self.suite.metric,
                name=self.data.name,
                label=f"{label} {self.suite.name}",
                progress=context.progress,
            )
        finally:
            rig.detach()

    def named(self, said: str, value: float | int | str) -> Measurement:
        """A measurement under the suite's name, since an adapter may have several."""
        return Measurement(name=f"{self.suite.name} {said}", value=value)

    def interval(self, said: str, found: Interval) -> Said:
        """A value and its interval, as three measurements."""
        yield self.named(said, found.value)
        yield self.named(f"{said}_low", found.low)
        yield self.named(f"{said}_high", found.high)


def suite_checks(bench: Bench) -> tuple[Check, ...]:
    """The checks of one suite on one adapter."""
    title, needs = bench.suite.name, frozenset({Need.BASE, Need.TORCH})
    return (
        Check(
            code="ZG006",
            title=f"The frozen sample {title} is the one that the policy binds",
            run=partial(_sample, bench),
        ),
        Check(
            code="ZG007",
            title=f"Its answers to {title} are good enough",
            run=partial(_answers, bench),
            requires=(*LOADS, "ZG006"),
            needs=needs,
        ),
        Check(
            code="ZG008",
            title=f"Its answers to {title} are no worse than the published version's",
            run=partial(_against, bench),
            requires=(*LOADS, "ZG006"),
            needs=needs,
            unless=partial(_nothing_before, bench),
        ),
    )


def _sample(bench: Bench, context: Context) -> Said:
    """ZG006: digest, enough of each answer, and not what it was trained on."""
    suite = bench.suite
    if bench.data.sha256 != suite.sha256:
        yield Finding(
            message=f"{suite.data} has sha256 {bench.data.sha256}, and the policy binds "
            f"{suite.sha256[:12]}…: another sample is another yardstick",
            fix="restore the file; or bind the new one, knowing that figures before and after do not compare",
        )
        return
    if not bench.samples:
        yield Finding(message=f"{suite.data} has no sample for {bench.name}")
        return
    known = strata(bench.samples)
    answers = Counter(known)
    for answer, count in sorted(answers.items()):
        if count < suite.per_answer:
            yield Finding(
                message=f"{suite.data} has {count} samples of {answer[:60]}; {suite.per_answer} are demanded",
                fix="draw more: zoo sample",
            )
    training = context.repo.lock.training if context.repo.lock else None
    if training is not None and training.data_sha256 == suite.sha256:
        yield Finding(
            message=f"it was trained on {suite.data} itself: what it answers to that shows nothing",
            fix="train without these samples, or measure on others",
        )
    yield bench.named("samples", len(known))
    shown = sorted(answers.items())[:8]
    yield bench.named("strata", ", ".join(f"{one[:40]}: {count}" for one, count in shown))
    yield bench.named("sha256", bench.data.sha256)


def _answers(bench: Bench, context: Context) -> Said:
    """ZG007: the bounds."""
    asked, suite = bench.own(context), bench.suite
    metric = asked.metric.replace("_", " ")
    value = of_mean(asked.scores, asked.groups, strata=asked.strata)
    trivial = of_mean(asked.trivial, asked.groups, strata=asked.strata).value
    gain = of_difference(asked.scores, asked.trivial, asked.groups, strata=asked.strata)
    formed = of_mean(asked.well_formed, asked.groups)
    yield from bench.interval(asked.metric, value)
    yield bench.named("trivial", trivial)
    yield from bench.interval("above_trivial", gain)
    yield from bench.interval("well_formed", formed)
    above = f"{metric} above that of one answer to everything ({trivial:.3f})"
    demands = [
        (metric, value, suite.at_least, plain(value)),
        (above, gain, suite.above_trivial, signed(gain)),
        (_FORMED, formed, suite.structured, plain(formed)),
    ]
    open_ones = []
    for what, found, least, said in demands:
        if least is None or found.low >= least:
            continue
        if found.high < least:
            yield Finding(message=f"{suite.name}: {what} is {said}, and {least:g} is demanded", fix=_BETTER)
        else:
            enough = _samples(found.value, least, len(asked.scores))
            open_ones.append(f"{what} is {said}: {enough} {least:g}")
    if open_ones:
        raise UndecidedError("; ".join(open_ones), hint=_MORE)


_FORMED = "share of well-formed replies"
_BETTER = "train it better, or publish it as what it is; zoo run shows single replies"


def _samples(value: float, least: float, samples: int) -> str:
    """How many samples would do, if what was seen were to stay."""
    wanted = samples
    while 0 <= least < value <= 1 and wanted < MOST and wilson_interval(value, wanted)[0] < least:
        wanted = wanted * 5 // 4 + 1
    about = f"about {wanted:,} could" if samples < wanted < MOST else "more might"
    return f"{samples:,} samples do not show ({about}) that it is at least"


def _against(bench: Bench, context: Context) -> Said:
    """ZG008: the paired difference."""
    demanded = bench.regression
    if demanded is None:
        return  # `unless` has said so
    mine, before = bench.own(context), bench.before(context)
    where = bench.published().where
    if mine.metric != before.metric:
        raise UndecidedError(
            f"{where} is measured by {before.metric}, and this by {mine.metric}",
            hint="give the two answers of one kind, or compare them by a suite of another name",
        )
    strata_ = mine.strata and before.strata
    known = of_mean(before.scores, before.groups, strata=before.strata)
    difference = of_difference(mine.scores, before.scores, mine.groups, strata=strata_)
    formed = of_difference(mine.well_formed, before.well_formed, mine.groups)
    yield bench.named("published", where)
    yield from bench.interval(f"published_{before.metric}", known)
    yield from bench.interval("difference", difference)
    yield from bench.interval("well_formed_difference", formed)
    lost = False
    for what, found in ((mine.metric.replace("_", " "), difference), (_FORMED, formed)):
        if found.high < -demanded.accuracy:
            lost = True
            yield Finding(
                message=f"{bench.suite.name}: {what} changed by {signed(found)} against {where}, "
                "on the same samples",
                fix="find out what became worse, or publish it under another name",
            )
    if not lost and demanded.margin is not None and not difference.low > -demanded.margin:
        said = f"{signed(difference)} against {where}: a loss of {demanded.margin:g} is not excluded"
        raise UndecidedError(said, hint=_MORE)


def _nothing_before(bench: Bench, _: Context) -> str:
    if bench.regression is None:
        return "the policy compares with nothing"
    try:
        bench.published()
    except NotFoundError as error:
        return f"nothing is published before this: {error.message}"
    return ""
