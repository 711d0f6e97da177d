"""An adapter asked some requests: how good each reply is, and whether it has the form that it should."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import ContractError, RefusedError
from zoo.evaluation.answers import answer_all, choices
from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompter
from zoo.training.contract import Contract
from zoo.training.dataset import Encoded, Sample, encode
from zoo.training.metric import Metric, read_json
from zoo.training.prefix import PrefixStore

if TYPE_CHECKING:
    from peft import PeftModel

    Ids = tuple[int, ...]

MAX_TOKENS = 32_768
CANDIDATES = 16  # commonest answers of which one is the trivial reply
MetricName = Literal["balanced_accuracy", "accuracy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of asking, a value between 0 and 1 a sample.

    Attributes:
        metric: `balanced_accuracy` or `accuracy` of closed answers, else `field_match` or `exact_match`.
        scores: of the metric.
        trivial: the metric's where the best single answer is given to everything.
        well_formed: 1 where the reply, decoded freely, is of the form that it should be.
        strata: of which the metric is the mean, each counting alike; empty for the plain mean.
        groups: of the samples.
    """

    metric: str
    scores: Sequence[float]
    trivial: Sequence[float]
    well_formed: Sequence[float]
    strata: Sequence[str]
    groups: Sequence[str]


def ask(
    model: "PeftModel",
    samples: Sequence[Sample],
    prompter: Prompter,
    invocation: Invocation,
    *,
    contract: Contract | None,
    metric: MetricName | None = None,
    name: str,
    label: str = "evaluate",
    progress: Progress = silent,
) -> Asked:
    """Asks an adapter and scores its replies.

    Of closed answers the likeliest is taken, as constrained decoding does; open ones are decoded greedily.
    Whether replies are well-formed is seen on greedy decoding without a constraint: through the contract
    where there is one; else a closed answer must be one of its set, a JSON object have its fields, a text
    end.

    Args:
        model: base and adapter.
        samples: what is asked.
        prompter: of the base.
        invocation: the adapter's.
        contract: the adapter's, or None.
        metric: of closed answers; balanced accuracy when None.
        name: the data file's, for messages.
        label: the stage's, for progress.
        progress: told about each batch.

    Raises:
        SpecError: a sample breaks the contract; see `zoo.training.dataset.encode`.
        RefusedError: ZI004 or ZD003, a prompt is without invocation or too long; ZG006, answers that are not
            closed have no accuracy.
    """
    encoded = encode(
        samples, prompter, invocation, name=name, max_tokens=_longest(prompter), contract=contract
    )
    expected = [one.answer for one in encoded]
    options = choices(expected)
    if metric and options is None:
        raise RefusedError(
            f"{name}: the policy wants {metric}, and these answers are not a closed set",
            code="ZG006",
            hint="leave `metric` out: the share of right fields or of equal answers is measured then",
        )

    def text(ids: Sequence[int]) -> str:
        found: str = prompter.tokenizer.decode(list(ids), skip_special_tokens=True)
        return found

    read = contract.reader(samples) if contract else read_json
    measure = Metric(options=options, decode=text, read=read)
    store = PrefixStore(model, encoded)
    free = answer_all(store, None, label=f"{label}, free", progress=progress)
    given = free if options is None else answer_all(store, options, label=label, progress=progress)
    named, scores = measure.scores(given, encoded)
    closed = [text(answer) for answer in expected] if options is not None else []
    balanced = options is not None and metric != "accuracy"
    form = _Form(options=options, end=prompter.end_ids, measure=measure, contracted=contract is not None)
    return Asked(
        metric="balanced_accuracy" if balanced else named,
        scores=scores,
        trivial=_trivial(measure, encoded),
        well_formed=[float(form.holds(ids, one)) for ids, one in zip(free, encoded, strict=True)],
        strata=closed if balanced else [],
        groups=[one.group or str(row) for row, one in enumerate(encoded)],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The form that replies should have."""

    options: "Sequence[Ids] | None"
    end: "Ids"
    measure: Metric
    contracted: bool

    def holds(self, ids: "Ids", sample: Encoded) -> bool:
        """Whether a reply has it."""
        if ids[-len(self.end) :] != self.end:
            return False
        if self.contracted:
            return self._value(ids, sample) is not None
        if self.options is not None:
            return ids in self.options
        wanted = self._value(sample.answer, sample)
        if not isinstance(wanted, dict):
            return True
        found = self._value(ids, sample)
        return isinstance(found, dict) and found.keys() == wanted.keys()

    def _value(self, ids: "Ids", sample: Encoded) -> Any:
        try:
            return self.measure.read(self.measure.decode(ids), sample.line)
        except (ValueError, ContractError, RecursionError):
            return None


def _trivial(measure: Metric, encoded: Sequence[Encoded]) -> list[float]:
    """The scores of the one answer that scores best when it is given to everything."""
    common = Counter(one.answer for one in encoded).most_common(CANDIDATES)
    scored = [measure.scores([answer] * len(encoded), encoded)[1] for answer, _ in common]
    return max(scored, key=sum)


def _longest(prompter: Prompter) -> int:
    stated = prompter.base.config.get("max_position_embeddings")
    return stated if isinstance(stated, int) else MAX_TOKENS
