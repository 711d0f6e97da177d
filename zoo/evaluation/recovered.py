"""A recovery measured on held-out samples: what each column answers, and where the adapter may begin."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zoo.evaluation import boundary
from zoo.evaluation.answers import accuracy, answer_all, trivial_accuracy
from zoo.evaluation.comparing import BASE, LORA, RECOVERED, RELABELLED, Columns, compare, control_of
from zoo.progress import Progress, silent
from zoo.specs.comparison import BoundaryPoint, Comparison, Control
from zoo.specs.lock import BehaviourRecord
from zoo.staging import write_file
from zoo.training.dataset import Encoded

if TYPE_CHECKING:
    from peft import PeftModel

    from zoo.training.distil_settings import Ending
    from zoo.training.metric import Metric

    Ids = tuple[int, ...]

CONTROL = "control"


class Measured:
    """The answers to held-out samples, column by column, as a recovery goes on."""

    def __init__(self, model: "PeftModel", *, samples: Sequence[Encoded], metric: "Metric") -> None:
        """Nothing is asked yet.

        Args:
            model: base and adapter, whose weights change between the calls.
            samples: held out.
            metric: of the task; its options are the closed set that answers are taken from, or None.
        """
        self.samples = samples
        self.metric = metric
        self.points: list[BoundaryPoint] = []
        self._given: dict[str, list[Ids]] = {}
        self._alone: list[Ids] = []
        self._control: Control | None = None
        count = min(boundary.SAMPLES, len(samples))
        # evenly over the file: its order may mean something
        self._swept = [place * len(samples) // count for place in range(count)]
        self._model = model
        self._places = boundary.Places(model, samples, self._swept)

    def teach(
        self, progress: Progress = silent, *, kept: Path | None = None, original: "PeftModel | None" = None
    ) -> None:
        """Asks the LoRA, whose weights the model must have; or the original that they approximate.

        Args:
            progress: told about each batch.
            original: base and adapter that answer as the original where the adapter acts, if not the model;
                it is not asked acting on the context alone, since behind it the base would not be the base.
            kept: takes its answers, and may have those of the same run when it was killed.
        """
        if kept and kept.is_file():
            found = json.loads(kept.read_text(encoding="utf-8"))
            self._given[LORA], self._alone = ([tuple(ids) for ids in column] for column in found)
            return
        teacher = original or self._model
        self._given[LORA], self._alone = boundary.teach(
            teacher, self.samples, self.metric.options, alone=teacher is self._model, progress=progress
        )
        if kept:
            write_file(kept, json.dumps([self._given[LORA], self._alone]).encode())

    def before(self, progress: Progress = silent) -> None:
        """Asks the base and the relabelled LoRA, and the LoRA begun elsewhere; after `teach`."""
        options, store = self.metric.options, self._places.own
        self._given[BASE] = answer_all(store, options, adapted=False, label=BASE, progress=progress)
        self._given[RELABELLED] = answer_all(store, options, label=RELABELLED, progress=progress)
        self._add_point(LORA, boundary.WHOLE, self._some(LORA))
        moved = self._places.sweep(options, boundary.MOVED, progress)
        self._add_point(LORA, boundary.HALF, moved[boundary.HALF])
        self._add_point(LORA, boundary.EARLIER, moved[boundary.EARLIER])
        self._add_point(LORA, boundary.INVOCATION, self._some(RELABELLED))
        self._add_point(LORA, boundary.LAST, moved[boundary.LAST])
        if self._alone:
            self._add_point(LORA, boundary.CONTEXT_ALONE, [self._alone[row] for row in self._swept])

    def after(self, progress: Progress = silent) -> None:
        """Asks the recovered adapter, at its invocation and near it; after `before`."""
        options = self.metric.options
        self._given[RECOVERED] = answer_all(self._places.own, options, label=RECOVERED, progress=progress)
        moved = self._places.sweep(options, (boundary.EARLIER, boundary.LAST), progress)
        self._add_point(RECOVERED, boundary.EARLIER, moved[boundary.EARLIER])
        self._add_point(RECOVERED, boundary.INVOCATION, self._some(RECOVERED))
        self._add_point(RECOVERED, boundary.LAST, moved[boundary.LAST])

    def control(self, *, steps: int, progress: Progress = silent) -> None:
        """Asks the control, a LoRA on the whole prompt whose weights the model must have; after `after`."""
        self._given[CONTROL], _ = boundary.teach(
            self._model, self.samples, self.metric.options, label=CONTROL, progress=progress
        )
        self._control = control_of(self._columns((*self._given,)), CONTROL, steps=steps)

    def compare(self, ending: "Ending", *, margin: float) -> Comparison:
        """Everything measured so far, with its verdict."""
        return compare(
            self._columns((BASE, LORA, RELABELLED, RECOVERED)),
            boundary=self.points,
            stopped=ending.said,
            settled=ending.settled,
            margin=margin,
            control=self._control,
        )

    def record(self, data_sha256: str, comparison: Comparison) -> BehaviourRecord:
        """What the lock says.

        Args:
            data_sha256: of the file that the samples came from.
            comparison: from `compare`.
        """
        expected = [sample.answer for sample in self.samples]
        given = {name: self._given[name] for name in (BASE, LORA, RELABELLED, RECOVERED)}
        return BehaviourRecord(
            status="measured",
            data_sha256=data_sha256,
            samples=len(expected),
            agreement={name: accuracy(answers, given[LORA]) for name, answers in given.items()},
            accuracy={name: accuracy(answers, expected) for name, answers in given.items()},
            trivial=trivial_accuracy(expected),
            comparison=comparison,
        )

    def _columns(self, names: Sequence[str]) -> Columns:
        scored = {name: self.metric.scores(self._given[name], self.samples) for name in names}
        return Columns(
            samples=self.samples,
            metric=scored[LORA][0],
            scores={name: values for name, (_, values) in scored.items()},
            agreement={name: _same(self._given[name], self._given[LORA]) for name in names},
        )

    def _some(self, column: str) -> "list[Ids]":
        return [self._given[column][row] for row in self._swept]

    def _add_point(self, weights: Literal["lora", "recovered"], start: str, given: "Sequence[Ids]") -> None:
        samples = [self.samples[row] for row in self._swept]
        _, scores = self.metric.scores(given, samples)
        self.points.append(
            BoundaryPoint(
                weights=weights,
                start=start,
                samples=len(samples),
                score=sum(scores) / len(scores),
                agreement=accuracy(given, self._some(LORA)),
            )
        )


def _same(given: "Sequence[Ids]", others: "Sequence[Ids]") -> list[float]:
    return [float(one == other) for one, other in zip(given, others, strict=True)]
