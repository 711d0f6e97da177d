"""What changed between two contracts, and which of it breaks those who rely on the old one.

A caller relies on what he gives being enough and on what he gets being as it was. So a result may become
narrower and not wider, an input wider and not narrower.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zoo.contracts.contract import Contract
from zoo.contracts.fields import Field

Part = Literal["result", "categories", "input", "invocation", "base", "name", "request"]
MOST_SHOWN = 12
_ALSO = {"number": frozenset(["integer"])}  # a number's caller can take an integer


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference.

    Attributes:
        part: of the contract.
        place: in that part: a result's place, an argument's name, a key.
        breaking: whether somebody who relied on the old one can fail.
        what: the difference in a few words.
        old: what it was, as text; empty when there was nothing.
        new: what it is; empty when there is nothing any more.
    """

    part: Part
    place: str
    breaking: bool
    what: str
    old: str = ""
    new: str = ""


def changes(old: Contract, new: Contract) -> list[Change]:
    """Every difference, the breaking ones first."""
    found = [
        *_results(old, new),
        *_categories(old.categories, new.categories),
        *_inputs(old, new),
        *_stated("invocation", old.invocation, new.invocation),
        *_stated("base", old.base, new.base),
        *_stated("name", {"name": old.name}, {"name": new.name}),
        *_requests(old.request, new.request),
    ]
    return sorted(found, key=lambda change: not change.breaking)


# ---------------------------------------------------------------- what comes out


def _results(old: Contract, new: Contract) -> Iterator[Change]:
    if old.result is None or new.result is None:
        if old.result is not None:
            yield Change(part="result", place="$", breaking=True, what="no io.yaml any more")
        elif new.result is not None:
            yield Change(part="result", place="$", breaking=False, what="an io.yaml where there was none")
        return
    yield from _fields(old.result, new.result)


def _fields(old: Mapping[str, Field], new: Mapping[str, Field]) -> Iterator[Change]:
    gone: set[str] = set()  # a removed object takes its fields with it: that is one change, not many
    for place, was in old.items():
        now = new.get(place)
        if was.parent in gone:
            gone.add(place)
        elif now is None:
            gone.add(place)
            yield _result(place, breaking=True, what="removed", old=was.describe())
        elif (not now.types <= _acceptable(was.types) and was.types) or (was.types and not now.types):
            gone.add(place)
            yield _result(place, breaking=True, what="other type", old=was.describe(), new=now.describe())
        else:
            yield from _same_type(was, now)
    for place, now in new.items():
        if place not in old and now.parent in old and now.parent not in gone:
            yield _result(place, breaking=False, what="added", new=now.describe())


def _acceptable(types: frozenset[str]) -> frozenset[str]:
    return types.union(*(_ALSO.get(one, frozenset()) for one in types))


def _same_type(was: Field, now: Field) -> Iterator[Change]:
    if was.types != now.types:
        yield _result(was.place, breaking=False, what="narrower type", old=was.describe(), new=now.describe())
    if was.always != now.always:
        what = "may be missing now" if was.always else "always there now"
        yield _result(was.place, breaking=was.always, what=what)
    yield from _values(was, now)
    if was.values is None and was.least != now.least:
        lower = now.least is None or (was.least is not None and now.least < was.least)
        what = "lower bound fell" if lower else "lower bound rose"
        yield _result(was.place, breaking=lower, what=what, old=_number(was.least), new=_number(now.least))


def _values(was: Field, now: Field) -> Iterator[Change]:
    if was.values is None and now.values is None:
        return
    if was.values is None or now.values is None:
        breaking = now.values is None
        what = "any value, not listed ones" if breaking else "only listed values"
        yield _result(was.place, breaking=breaking, what=what, old=_list(was.values), new=_list(now.values))
        return
    before, after = {repr(one): one for one in was.values}, {repr(one): one for one in now.values}
    if added := [value for key, value in after.items() if key not in before]:
        yield _result(was.place, breaking=True, what="new value that callers do not know", new=_list(added))
    if removed := [value for key, value in before.items() if key not in after]:
        yield _result(was.place, breaking=False, what="value that comes no more", old=_list(removed))


def _categories(
    old: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]]
) -> Iterator[Change]:
    for place in old.keys() & new.keys():
        was, now = old[place], new[place]
        for category in sorted(was.keys() | now.keys()):
            if was.get(category) != now.get(category):
                yield Change(
                    part="categories",
                    place=f"{place}: {category}",
                    breaking=category in was and category in now,
                    what="other number" if category in was and category in now else "other categories",
                    old=_number(was.get(category)),
                    new=_number(now.get(category)),
                )


# ---------------------------------------------------------------- what goes in


def _inputs(old: Contract, new: Contract) -> Iterator[Change]:
    for name in sorted(new.inputs.arguments - old.inputs.arguments):
        yield Change(part="input", place=name, breaking=old.result is not None, what="argument wanted now")
    for name in sorted(old.inputs.arguments - new.inputs.arguments):
        yield Change(part="input", place=name, breaking=True, what="argument not taken any more")
    for source in sorted(new.inputs.sources - old.inputs.sources):
        yield Change(
            part="input",
            place=source,
            breaking=old.result is not None,
            what="sentences wanted from it now",
        )
    for source in sorted(old.inputs.sources - new.inputs.sources):
        yield Change(part="input", place=source, breaking=False, what="its sentences are not used any more")
    was, now = old.inputs.last_role, new.inputs.last_role
    if was and now and was != now:
        yield Change(part="input", place="last message", breaking=True, what="other role", old=was, new=now)


def _stated(part: Part, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    """What both contracts state must be the same; what only one states cannot be compared."""
    for key in old:
        if old[key] and new.get(key) and old[key] != new[key]:
            yield Change(part=part, place=key, breaking=True, what="changed", old=old[key], new=new[key])


def _requests(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield Change(part="request", place=name, breaking=False, what=_how(name in old, name in new))


def _how(before: bool, after: bool) -> str:
    return "changed" if before and after else "added" if after else "removed"


def _result(place: str, *, breaking: bool, what: str, old: str = "", new: str = "") -> Change:
    return Change(part="result", place=place, breaking=breaking, what=what, old=old, new=new)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _list(values: Any) -> str:
    import json

    shown = [json.dumps(value, ensure_ascii=False) for value in list(values or ())[:MOST_SHOWN]]
    return ", ".join([*shown, "…"]) if values is not None and len(values) > MOST_SHOWN else ", ".join(shown)
