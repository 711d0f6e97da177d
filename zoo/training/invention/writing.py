"""A round: requests written, passed through the sieve, crossed with each other, and answered."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import SampleRequest
from zoo.training.contract import Contract
from zoo.training.dataset import Sample
from zoo.training.invention.drafting import Drafting, special_ids
from zoo.training.invention.exemplars import Exemplar, exemplars
from zoo.training.invention.sampler import Drawing, decode
from zoo.training.invention.sieve import Sieve
from zoo.training.invention.teacher import Answering

if TYPE_CHECKING:
    from peft import PeftModel

    from zoo.training.invention.invention import InventionSettings

Written = tuple[Exemplar, Sequence[str]]


class Writing:
    """Writes and answers requests round by round; each round follows from its number and those before."""

    def __init__(
        self,
        *,
        model: "PeftModel",
        teacher: "PeftModel",
        prompter: Prompter,
        invocation: Invocation,
        requests: Sequence[SampleRequest],
        tail: str,
        contract: Contract | None,
        settings: "InventionSettings",
    ) -> None:
        """Takes the samples apart.

        Args:
            model: whose base writes requests.
            teacher: base and adapter; the adapter on every token answers them.
            prompter: of the base.
            invocation: the adapter's.
            requests: the samples; may be none.
            tail: an invocation that callers write into their last message; empty where others write it.
            contract: the adapter's `io.yaml`, or None.
            settings: how.
        """
        self._model, self._prompter, self._settings, self._tail = model, prompter, settings, tail
        self._samples = exemplars(requests, tail=tail)
        special = {prompter.decode([id]) for id in special_ids(prompter)}
        self._sieve = Sieve(self._samples, foreign=[invocation.text, *sorted(special)])
        positions = prompter.base.config.get("max_position_embeddings")
        longest = min(settings.max_tokens, positions if isinstance(positions, int) else settings.max_tokens)
        self._drafting = Drafting(self._samples, prompter, longest=longest)
        self._answering = Answering(
            model=teacher,
            prompter=prompter,
            invocation=invocation,
            contract=contract,
            most=min(settings.answer_tokens, longest // 2),
            longest=longest,
            batch=settings.batch,
        )
        self.drafted = self.crossed = 0

    @property
    def rejected(self) -> Counter[str]:
        """Requests that were not used, by reason."""
        return self._sieve.rejected

    def round(self, number: int, progress: Progress = silent) -> dict[str, Any]:
        """Writes and answers the requests of a round.

        Returns:
            `rows` for the data file, `texts` of what passed the sieve, how many were `rejected` by reason,
            `drafted` by the base and `crossed`.
        """
        before = self._sieve.rejected.copy()
        written = self._written(number, progress)
        requests = _with_crossed(written)
        samples = [
            self._sample(exemplar, texts, line, group=f"{number}.{group}")
            for line, (exemplar, texts, group) in enumerate(requests, start=1)
        ]
        crossed = len(requests) - len(written)
        self.crossed += crossed
        seed = _seed(self._settings.seed, number, "answers")
        drawing = Drawing(temperature=self._settings.answer_temperature, seed=seed)
        rows = []
        for sample, (answer, reason) in zip(
            samples, self._answering.answers(samples, drawing, progress), strict=True
        ):
            if reason:
                self._sieve.reject(reason)
            else:
                rows.append(_row(sample, answer))
        return {
            "rows": rows,
            "texts": [list(texts) for _, texts in written],
            "rejected": dict(self._sieve.rejected - before),
            "drafted": self._settings.batch,
            "crossed": crossed,
        }

    def remember(self, found: Mapping[str, Any]) -> None:
        """Takes a round of an earlier run for written."""
        for texts in found["texts"]:
            self._sieve.remember(texts)
        self._sieve.rejected.update(found["rejected"])
        self.drafted += found["drafted"]
        self.crossed += found["crossed"]

    def _written(self, number: int, progress: Progress) -> list[Written]:
        settings = self._settings
        drafts = self._drafting.round(count=settings.batch, seed=f"{settings.seed}/{number}")
        seed = _seed(settings.seed, number, "requests")
        ends = self._prompter.end_ids
        decode(
            self._model,
            [row.script for row in drafts.rows],
            shared=drafts.shared,
            adapted=False,
            drawing=Drawing(temperature=settings.temperature, min_p=settings.min_p, seed=seed),
            room=drafts.room,
            banned=sorted(special_ids(self._prompter) - set(ends)),
            label="requests by the base",
            progress=progress,
        )
        self.drafted += settings.batch
        found: list[Written] = []
        for row in drafts.rows:
            if row.script.failure:
                self._sieve.reject(row.script.failure)
            elif self._sieve.passes(row.exemplar, row.script.texts):
                found.append((row.exemplar, row.script.texts))
        return found

    def _sample(self, exemplar: Exemplar, texts: Sequence[str], line: int, *, group: str) -> Sample:
        request = exemplar.filled(texts)
        messages = request["messages"]
        if self._tail and self._tail not in messages[-1]["content"]:
            messages[-1]["content"] += self._tail
        return Sample(
            line=line,
            messages=tuple(messages),
            answer="",
            group=group,
            documents=tuple(request.get("documents", ())),
            arguments=request.get("arguments", {}),
        )


def _with_crossed(written: Sequence[Written]) -> list[tuple[Exemplar, Sequence[str], int]]:
    """Requests in pairs of one form, and each with a part of the other: what is written mostly fits.

    A pair and what comes of it are one group, so that no text of it is in two parts of the data.

    Returns:
        Exemplar, texts and the number of the group.
    """
    found: list[tuple[Exemplar, Sequence[str], int]] = []
    waiting: dict[tuple[str, ...], Written] = {}
    groups = 0
    for exemplar, texts in written:
        form = tuple(part.title for part in exemplar.written)
        other = waiting.pop(form, None)
        if other is None:
            waiting[form] = (exemplar, texts)
            continue
        pair = [other, (exemplar, texts), *_crossed(other, (exemplar, texts))]
        found += [(*one, groups) for one in pair]
        groups += 1
    return found + [(*one, groups + place) for place, one in enumerate(waiting.values())]


def _crossed(one: Written, two: Written) -> list[Written]:
    """Two requests whose last parts, or whose arguments, have changed places; none where they cannot."""
    (first, here), (second, there) = one, two
    if at := min(first.crossable, second.crossable):
        return [(first, [*here[:at], *there[at:]]), (second, [*there[:at], *here[at:]])]
    if first.request.get("arguments") != second.request.get("arguments"):
        return [(second, here), (first, there)]
    return []


def _row(sample: Sample, answer: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"messages": list(sample.messages), "answer": answer, "group": sample.group}
    if sample.documents:
        row["documents"] = [dict(one) for one in sample.documents]
    if sample.arguments:
        row["arguments"] = dict(sample.arguments)
    return row


def _seed(seed: int, number: int, what: str) -> int:
    import hashlib

    return int.from_bytes(hashlib.sha256(f"{seed}/{number}/{what}".encode()).digest()[:6], "big")
