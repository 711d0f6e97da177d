"""What the base model is given to continue, so that it writes new requests.

With samples: a plain text of some of them, piece under headline, in which the next record is begun. A base
model continues the form more reliably than it follows an instruction, and a small one writes about subjects
of its own. The headlines of the new record are forced, so its form is right by construction.

Without samples: the base's own chat template up to where a user speaks; an instruction-tuned model then
writes what users write. Source: Magpie, arXiv 2406.08464.
"""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.errors import RefusedError
from zoo.prompts import Prompter
from zoo.training.invention.exemplars import Exemplar, Part
from zoo.training.invention.script import Gap, Script
from zoo.training.invention.subjects import TITLE, Subjects

if TYPE_CHECKING:
    from torch import Tensor

RECORD, HEADLINE = "# Request\n\n", "## {}\n"
STOP = re.compile(r"\n[ \t]*#")
SHOWN = 6  # samples before a new record
SHOWN_TOKENS = 1536
LONGEST = 512  # tokens of one written piece
SHORTER = (0.4, 1.0)  # of a sample's length is the least that a new piece has
LONGER = 1.25  # how much longer than the longest sample a new piece may be
TURN = 120  # tokens of a turn where nothing says how long they are
AGAIN = 0.3  # share of conversations of more than one question, where nothing says how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A request that is being written.

    Attributes:
        script: the row that is decoded.
        exemplar: of which its form is.
    """

    script: Script
    exemplar: Exemplar


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """A round of requests that are written together.

    Attributes:
        shared: ids that all rows begin with.
        rows: the requests.
        room: tokens that one takes at most.
    """

    shared: tuple[int, ...]
    rows: Sequence[Draft]
    room: int


class Drafting:
    """Begins requests in the form of samples, or plain conversations where there are none."""

    def __init__(self, exemplars: Sequence[Exemplar], prompter: Prompter, *, longest: int) -> None:
        """Measures the samples.

        Args:
            exemplars: the samples; none for conversations.
            prompter: of the base.
            longest: tokens that the base can read.
        """
        self._exemplars = exemplars
        self._prompter = prompter
        self._longest = longest
        self._subjects = Subjects(prompter)
        self._alike = by_arguments(exemplars)
        self._sizes: dict[str, list[int]] = {}
        for one in exemplars:
            for part in one.written:
                self._sizes.setdefault(part.title, []).append(len(prompter.encode(part.text)))
        self._ends = special_ids(prompter)

    def round(self, *, count: int, seed: str) -> Drafts:
        """A round of requests.

        Args:
            count: rows.
            seed: of all choices.

        Raises:
            RefusedError: ZT001, there are no samples, and the template shows no place where a user speaks.
        """
        drawn = random.Random(seed)
        if not self._exemplars:
            return self._conversations(count, drawn)
        shown = self._shown(drawn)
        rows = [self._record(drawn) for _ in range(count)]
        return self._drafts(shown, rows, stop=STOP)

    @cached_property
    def _prose(self) -> "Tensor":
        """Which ids go on with a paragraph: bool `[vocabulary]`."""
        import torch

        tokenizer = self._prompter.tokenizer
        count = tokenizer.get_vocab_size(with_added_tokens=True)
        texts = tokenizer.decode_batch([[id] for id in range(count)], skip_special_tokens=False)
        ends = self._ends
        return torch.tensor([id not in ends and "\n" not in text for id, text in enumerate(texts)])

    def _drafts(
        self,
        shared: tuple[int, ...],
        rows: Sequence[tuple[Exemplar, list[Gap]]],
        *,
        stop: re.Pattern[str] | None,
    ) -> Drafts:
        made = [
            Draft(
                script=Script(gaps, self._prompter.decode, stop=stop, ends=self._ends, prose=self._prose),
                exemplar=exemplar,
            )
            for exemplar, gaps in rows
        ]
        room = max(sum(len(gap.before) + gap.most for gap in gaps) - len(gaps[0].before) for _, gaps in rows)
        return Drafts(shared=shared, rows=made, room=room)

    def _shown(self, drawn: random.Random) -> tuple[int, ...]:
        """The beginning: some samples, as many as there is room for."""
        need = max(sum(self._most(part.title) for part in one.written) for one in self._exemplars)
        last = max(len(self._prompter.encode(self._told(one))) for one in self._exemplars)
        tokens = min(SHOWN_TOKENS, self._longest // 2 - last, self._longest - need - last)
        text = ""
        ids: tuple[int, ...] = ()
        for one in drawn.sample(self._exemplars, min(SHOWN, len(self._exemplars) - 1)):
            text += self._told(one)
            longer = self._prompter.encode(text)
            if len(longer) > tokens:
                break
            ids = longer
        return ids

    def _told(self, exemplar: Exemplar) -> str:
        """A sample as a record."""
        pieces = (_headed(part.title, part.text) for part in exemplar.parts if not part.constant)
        return RECORD + _headed(TITLE, self._subject(exemplar)) + "".join(pieces)

    def _record(self, drawn: random.Random) -> tuple[Exemplar, list[Gap]]:
        """A sample, and behind it the gaps of a new record in its form, about as long as one of them.

        A model writes about what it read last, so rows differ in it: each has a sample of its own there.
        """
        exemplar = drawn.choice(drawn.choice(self._alike))
        subject = self._subjects.drawn(drawn, [self._subject(one) for one in self._exemplars])
        gaps, before = [], self._told(exemplar) + RECORD + _headed(TITLE, subject)
        for part in exemplar.parts:
            if part.written:
                least = round(drawn.uniform(*SHORTER) * min(LONGEST, drawn.choice(self._sizes[part.title])))
                before += HEADLINE.format(part.title)
                ids = self._prompter.encode(before)
                gaps.append(Gap(before=ids, least=least, most=self._most(part.title)))
                before = "\n\n"
            elif not part.constant:
                before += _headed(part.title, part.text)
        return exemplar, gaps

    def _most(self, title: str) -> int:
        return min(LONGEST, round(LONGER * max(self._sizes[title])) + 8)

    def _subject(self, exemplar: Exemplar) -> str:
        return self._subjects.of(" ".join(part.text for part in exemplar.written))

    def _conversations(self, count: int, drawn: random.Random) -> Drafts:
        """Conversations of one question, and some of two with the base's own answer between."""
        once, twice = (_conversation(self._prompter, turns) for turns in (1, 3))
        rows = [twice if drawn.random() < AGAIN else once for _ in range(count)]
        return self._drafts((), rows, stop=None)


def by_arguments(exemplars: Sequence[Exemplar]) -> list[list[Exemplar]]:
    """Samples by the arguments that new requests repeat: each set of them is drawn as often.

    They may be few, such as the requirements that an adapter knows: it has to be as good on each, however
    often the samples have it.
    """
    found: dict[str, list[Exemplar]] = {}
    for one in exemplars:
        anew = {part.place[1] for part in one.written if part.place[0] == "arguments"}
        kept = {name: value for name, value in one.request.get("arguments", {}).items() if name not in anew}
        found.setdefault(json.dumps(kept, sort_keys=True), []).append(one)
    return list(found.values())


def _headed(title: str, text: str) -> str:
    return f"{HEADLINE.format(title)}{text.strip()}\n\n"


def special_ids(prompter: Prompter) -> frozenset[int]:
    """The ids of special tokens: one ends a piece, and none is of it."""
    added: Mapping[int, Any] = prompter.tokenizer.get_added_tokens_decoder()
    return frozenset(id for id, token in added.items() if token.special) | set(prompter.end_ids)


def _conversation(prompter: Prompter, turns: int) -> tuple[Exemplar, list[Gap]]:
    marks = [f"ZOO{turn}GAP" for turn in range(turns)]
    messages = [{"role": ("user", "assistant")[turn % 2], "content": mark} for turn, mark in enumerate(marks)]
    rest = prompter.render([messages], generation_prompt=False)[0]
    gaps = []
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or not before:
            raise RefusedError(
                f"the chat template of {prompter.base.id} has no place where a user begins to speak",
                code="ZT001",
                hint="give sample requests in a zoo.yaml (--project), or data: --recover DATA.jsonl",
            )
        gaps.append(Gap(before=prompter.encode(before), least=0, most=TURN))
    parts = tuple(
        Part(place=("messages", turn, "content"), title=message["role"].capitalize(), before="", text="")
        for turn, message in enumerate(messages)
    )
    return Exemplar(request={"messages": messages}, parts=parts), gaps
