"""Sample requests taken apart into what a new request repeats and what the base model shall write anew.

Texts of one kind (all user messages, all documents) may have labels in common, such as `Passage:` and
`Question:` at the beginnings of lines; each labelled piece is a part of its own.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoo.specs.release import SampleRequest

_LABEL = re.compile(r"^([A-Z][\w ]{0,30}):[ \n]", re.MULTILINE)
FIXED_ROLES = ("system", "developer", "tool")  # not written anew: taken over from a sample
FEW = 3  # below so many samples, an argument's values are taken for all there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a sample request's text.

    Attributes:
        place: where the text it is of stands in the request: keys and indices.
        title: what it is, for people and for the base model.
        before: what stands before it in that text.
        text: itself.
        written: whether a new request has another one.
        constant: whether all samples have the same.
    """

    place: tuple[str | int, ...]
    title: str
    before: str
    text: str
    written: bool = True
    constant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A sample request and its parts, in the order in which they are written."""

    request: Mapping[str, Any]
    parts: tuple[Part, ...]

    @property
    def written(self) -> list[Part]:
        """The parts that a new request has others of."""
        return [part for part in self.parts if part.written]

    @property
    def crossable(self) -> int:
        """From which of its written parts on two new requests may change places; 0 when they may not.

        A passage and a question, a document and a conversation: either goes with another's, and the answer
        is another then. The turns of one conversation do not.
        """
        written = self.written
        if len(written) < 2:
            return 0
        apart = [part for part in written if part.place[0] != written[-1].place[0]]
        labelled = written[-1].place == written[-2].place
        return len(apart) or (len(written) - 1 if labelled else 0)

    def filled(self, texts: Sequence[str]) -> dict[str, Any]:
        """A new request with these texts in the places of the written parts."""
        made: dict[str, Any] = {
            "messages": [dict(message) for message in self.request["messages"]],
            "documents": [dict(one) for one in self.request.get("documents", ())],
            "arguments": dict(self.request.get("arguments", {})),
        }
        new = iter(texts)
        joined: dict[tuple[str | int, ...], str] = {}
        for part in self.parts:
            text = next(new) if part.written else part.text
            joined[part.place] = joined.get(part.place, "") + part.before + text
        for place, text in joined.items():
            target: Any = made
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = text
        return {key: value for key, value in made.items() if value}


def exemplars(requests: Sequence[SampleRequest], *, tail: str = "") -> list[Exemplar]:
    """Takes sample requests apart.

    Args:
        requests: what callers pass.
        tail: an invocation that the caller writes into his last message; from it on nothing is written anew.
    """
    documents = [request.model_dump(mode="json", exclude_none=True) for request in requests]
    texts = [_texts(document, tail) for document in documents]
    labels = _labels([item for one in texts for item in one])
    parts = [[part for item in one for part in _parts(*item, labels)] for one in texts]
    settled = _settled(parts)
    return [
        Exemplar(request=document, parts=tuple(one)) for document, one in zip(documents, settled, strict=True)
    ]


_Text = tuple[tuple[str | int, ...], str, str, str, bool]  # place, kind, text, rest, written


def _texts(request: Mapping[str, Any], tail: str) -> list[_Text]:
    """The texts of a request: arguments, documents, messages."""
    found: list[_Text] = [
        (("arguments", name), name.replace("_", " ").capitalize(), value, "", True)
        for name, value in request["arguments"].items()
        if isinstance(value, str)
    ]
    for index, document in enumerate(request["documents"]):
        if "title" in document:
            found.append((("documents", index, "title"), "Title", document["title"], "", True))
        found.append((("documents", index, "text"), "Document", document["text"], "", True))
    last = len(request["messages"]) - 1
    for index, message in enumerate(request["messages"]):
        role, content = message["role"], message["content"]
        cut = content.rfind(tail) if tail and index == last else -1
        text, rest = (content, "") if cut < 0 else (content[:cut], content[cut:])
        place = ("messages", index, "content")
        found.append((place, role.capitalize(), text, rest, role not in FIXED_ROLES))
    return found


def _labels(texts: Sequence[_Text]) -> dict[str, list[str]]:
    """By kind, the labels that every text of it has once, in the same order."""
    by_kind: dict[str, list[list[str]]] = {}
    for _, kind, text, _, written in texts:
        if written:
            by_kind.setdefault(kind, []).append(_LABEL.findall(text))
    found = {}
    for kind, each in by_kind.items():
        common = [
            label for label in dict.fromkeys(each[0]) if all(labels.count(label) == 1 for labels in each)
        ]
        orders = {tuple(label for label in labels if label in common) for labels in each}
        found[kind] = common if len(orders) == 1 else []
    return found


def _parts(
    place: tuple[str | int, ...],
    kind: str,
    text: str,
    rest: str,
    written: bool,
    labels: Mapping[str, Sequence[str]],
) -> list[Part]:
    found: list[Part] = []
    begin, before, title = 0, "", kind
    for match in _LABEL.finditer(text):
        if not written or match[1] not in labels.get(kind, ()):
            continue
        piece = text[begin : match.start()]
        kept = piece.rstrip()
        if kept or found:
            found.append(Part(place=place, title=title, before=before, text=kept, written=bool(kept)))
            before = piece[len(kept) :] + match[0]
        else:
            before += piece + match[0]
        begin, title = match.end(), match[1]
    found.append(Part(place=place, title=title, before=before, text=text[begin:], written=written))
    if rest:
        found.append(Part(place=place, title=kind, before="", text=rest, written=False, constant=True))
    return found


def _settled(parts: Sequence[Sequence[Part]]) -> list[list[Part]]:
    """Marks what all samples have alike, and arguments of which there are only a few, as not written anew."""
    values: dict[tuple[str, str], Counter[str]] = {}
    for one in parts:
        for part in one:
            values.setdefault(_kind(part), Counter())[part.text] += 1
    done = []
    for one in parts:
        row = []
        for part in one:
            counts = values[_kind(part)]
            constant = part.constant or (len(counts) == 1 and counts.total() > 1)
            few = part.place[0] == "arguments" and (counts.total() < FEW or counts.most_common(1)[0][1] > 1)
            written = part.written and not constant and not few
            row.append(replace(part, written=written, constant=constant))
        done.append(row)
    return done


def _kind(part: Part) -> tuple[str, str]:
    return str(part.place[0]), part.title
