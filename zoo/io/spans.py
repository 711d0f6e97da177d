"""`decode_sentences` and `merge_spans`: from sentence numbers to places in the caller's texts."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import ContractError
from zoo.io.json_value import Budget, Path
from zoo.io.records import Record, field, identity, records, wrong_kind
from zoo.io.reply_text import Leaf, without_places
from zoo.io.sentences import Place

if TYPE_CHECKING:
    from zoo.specs.io import MergeSpans

Offsets = Literal["untagged", "tagged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A numbered sentence; its text reaches up to where the next sentence begins, so that spans join.

    Attributes:
        begin: offset of its first character in its document or message.
        end: offset behind its last one.
        text: from `begin` to `end` of the caller's text.
        document_id: the document's `doc_id`; None in a message.
        message_index: of the history's message; None elsewhere.
    """

    begin: int
    end: int
    text: str
    document_id: str | None
    message_index: int | None


class Numbered:
    """The sentences that a reply's numbers may mean, each made when it is asked for.

    Args:
        places: all numbered texts of the request.
        sources: locations that the contract decodes from.
        offsets: `untagged` counts in the caller's text; `tagged` in the text with the tags, from a tag's
            first character to the next tag's, as executors before February 2026 meant to.

    Raises:
        ContractError: ZO130, one number is two sentences.

    Source: granite-common 0.4.1, intrinsics/output.py (DecodeSentences); its sentences are those of the text
        joined by single spaces, which are the caller's where that has no other white space.
    """

    def __init__(self, places: Sequence[Place], sources: Sequence[str], offsets: Offsets) -> None:
        self.places = sorted(
            (place for place in places if place.location in sources and place.spans),
            key=lambda place: place.first,
        )
        self.firsts = [place.first for place in self.places]
        self.tagged: dict[int, list[int]] | None = {} if offsets == "tagged" else None
        for before, after in pairwise(self.places):
            if before.first + len(before.spans) > after.first:
                raise ContractError(
                    f"sentence {after.first} is in the documents or the history and also in the last message",
                    hint="decode them in two transformations, each with one source",
                    code="ZO130",
                )

    def find(self, number: int) -> Sentence | None:
        """The sentence with this number; None when there is none."""
        at = bisect_right(self.firsts, number) - 1
        if at < 0 or number - self.firsts[at] >= len(self.places[at].spans):
            return None
        index = number - self.firsts[at]
        sentence = _sentence(self.places[at], index)
        if self.tagged is None:
            return sentence
        begins = self.tagged[at] = self.tagged.get(at) or _tagged_begins(self.places[at])
        return replace(sentence, begin=begins[index], end=begins[index + 1])

    def known(self) -> str:
        """The numbers there are, for a message."""
        if not self.places:
            return "none"
        return f"{self.firsts[0]} to {self.firsts[-1] + len(self.places[-1].spans) - 1}"


def decode(
    record: Record,
    name: str,
    names: Mapping[Any, str],
    found: Numbered,
    path: Path,
    budget: Budget,
) -> None:
    """Writes what is known of the sentence whose number is a record's field into the record.

    Args:
        record: changed in place.
        name: the field with the number.
        names: the fields to write, by what goes into them.
        found: the sentences.
        path: of the field.
        budget: what the result may still use up.

    Raises:
        ContractError: ZO102, the texts become too long; ZO124, the field is no integer; ZO129, no sentence
            has this number; ZO131, a field to write exists and is another one.
    """
    value = record[name]
    number = value.value if isinstance(value, Leaf) else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise wrong_kind("a sentence's number", value, path)
    sentence = found.find(number)
    if sentence is None:
        raise ContractError(
            f"no sentence has the number {str(number)[:20]}",
            path=path,
            hint=f"numbers of this request's sentences: {found.known()}",
            code="ZO129",
        )
    budget.spend(path, nodes=len(names), characters=len(sentence.text) if "text" in names else 0)
    for what, new in names.items():
        if new in record and new != name:
            raise ContractError(
                f"the contract writes the field {new!r}, which the record has already",
                path=path,
                code="ZO131",
            )
        record[new] = getattr(sentence, what)


def merge_spans(value: Any, step: "MergeSpans", path: Path, budget: Budget) -> list[Record]:
    """Joins records of one group whose spans follow one another; sorted by group and begin.

    Raises:
        ContractError: ZO123, a field is missing; ZO124, it is no list of spans, or a record has other fields;
            ZO132, two spans of a group begin at one place; ZO102, the texts become too long.

    Source: mellea 0.8.0, formatters/granite/intrinsics/output.py (MergeSpans).
    """
    spans = [_checked(record, step, (*path, index)) for index, record in enumerate(records(value, path))]
    groups = {id(span): [span[name] for name in step.group_fields] for span in spans}
    spans.sort(key=lambda span: (_order(groups[id(span)]), span[step.begin_field]))
    merged: list[Record] = []
    for before, span in zip([None, *spans], spans, strict=False):
        same = before is not None and identity(groups[id(before)]) == identity(groups[id(span)])
        if before is not None and same and before[step.begin_field] == span[step.begin_field]:
            raise ContractError(
                f"two spans of one group begin at {span[step.begin_field]}",
                path=path,
                hint="put drop_duplicates before merge_spans",
                code="ZO132",
            )
        if same and merged[-1][step.end_field] == span[step.begin_field]:
            merged[-1][step.end_field] = span[step.end_field]
            if step.text_field is not None:
                merged[-1][step.text_field].append(span[step.text_field])
        else:
            merged.append(dict(span))
            if step.text_field is not None:
                merged[-1][step.text_field] = [span[step.text_field]]
    if step.text_field is not None:
        for span in merged:
            budget.spend(path, characters=sum(map(len, span[step.text_field])))
            span[step.text_field] = "".join(span[step.text_field])
    return merged


def _sentence(place: Place, index: int) -> Sentence:
    """One of a text's sentences; it ends where the next one begins."""
    begin, end = place.spans[index]
    end = place.spans[index + 1][0] if index + 1 < len(place.spans) else end
    return Sentence(
        begin=begin,
        end=end,
        text=place.text[begin:end],
        document_id=place.document_id,
        message_index=place.index if place.location == "all_but_last_message" else None,
    )


def _tagged_begins(place: Place) -> list[int]:
    """Where each sentence's tag begins in the text with tags, and behind them where it ends."""
    sizes = [
        len(f"<{place.prefix}{number}> ") + end - begin + 1  # a space before the next tag
        for number, (begin, end) in enumerate(place.spans, place.first)
    ]
    begins = list(accumulate(sizes, initial=0))
    begins[-1] -= 1
    return begins


def _checked(record: Record, step: "MergeSpans", path: Path) -> Record:
    known = [*step.group_fields, step.begin_field, step.end_field]
    known += [] if step.text_field is None else [step.text_field]
    plain = {name: without_places(field(record, name, path)) for name in known}
    for name in record:
        if name not in plain:
            raise ContractError(
                f"the field {name!r} would be lost when spans are merged",
                path=(*path, name),
                hint="make it a group field, or project it away before",
                code="ZO124",
            )
    for name in (step.begin_field, step.end_field):
        if isinstance(plain[name], bool) or not isinstance(plain[name], int):
            raise wrong_kind("an offset", plain[name], (*path, name))
    if step.text_field is not None and not isinstance(plain[step.text_field], str):
        raise wrong_kind("a text", plain[step.text_field], (*path, step.text_field))
    return {name: plain[name] for name in record}


def _order(group: list[Any]) -> list[tuple[int, Any]]:
    """A key that sorts values of several kinds: null, then booleans and numbers, then text, then the rest."""
    keys: list[tuple[int, Any]] = []
    for value in group:
        match value:
            case None:
                keys.append((0, 0))
            case bool() | int() | float():
                keys.append((1, value))
            case str():
                keys.append((2, value))
            case _:
                keys.append((3, identity([value])))
    return keys
