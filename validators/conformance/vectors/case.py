"""The vectors as the program sees them, read from the JSON files beside this module."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DefectError, NotFoundError, SpecError

FOLDER = Path(__file__).parent
SCHEMA = FOLDER / "vectors.schema.json"
MODEL = FOLDER / "model"
ADAPTERS: Mapping[str, Path] = {name: FOLDER / f"adapter-{name}" for name in ("a", "b", "c")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The next token's log-probabilities after one position.

    Attributes:
        position: index into the row's ids, padding not counted.
        log_probs: natural logarithm, by token id: the 20 likeliest and a few fixed ones.
    """

    position: int
    log_probs: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a batch.

    Attributes:
        adapter: which adapter the row asks for; None is the base model.
        invocation: that adapter's invocation ids; empty for the base model.
        ids: the prompt, and behind it what was decoded.
        prompt: how many of `ids` are the prompt. The rest never moves the activation.
        active_from: position from which the adapter acts, to the end; None is nowhere.
        expected: at stated positions, ascending, the last position always among them.
    """

    adapter: str | None
    invocation: tuple[int, ...]
    ids: tuple[int, ...]
    prompt: int
    active_from: int | None
    expected: tuple[Expected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """A request that the engine served just before, and whose KV it may reuse where that is right.

    Attributes:
        adapter: which adapter it asked for; None is the base model.
        invocation: that adapter's invocation ids; empty for the base model.
        ids: its prompt.
    """

    adapter: str | None
    invocation: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """How the prompts of a batch are filled up to the longest one.

    Attributes:
        side: `left` or `right`.
        id: the padding's token id.
    """

    side: str
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One vector.

    Attributes:
        id: stable and unique over all files, kebab-case.
        comment: what it is about.
        source: where the matter comes from.
        flags: what an engine must be able to do to run it.
        rows: one, or a batch.
        history: earlier requests of the same session, oldest first.
        padding: None where all prompts are equally long.
        calls: tokens of each prefill call, padding counted; empty is one call for the whole prompt.
        separation: in nats, how far off an engine is at least that starts one token early or late (where
            nothing shall be active: that adapts every token), the largest difference at a stated position.
        tolerance: in nats, what a float32 engine may differ by.
    """

    id: str
    comment: str
    source: str
    flags: frozenset[str]
    rows: tuple[Row, ...]
    history: tuple[Earlier, ...]
    padding: Padding | None
    calls: tuple[int, ...]
    separation: float
    tolerance: float

    @property
    def adapters(self) -> tuple[str, ...]:
        """The adapters that its rows and its history ask for, sorted."""
        asked = {row.adapter for row in self.rows} | {one.adapter for one in self.history}
        return tuple(sorted(name for name in asked if name is not None))

    @property
    def width(self) -> int:
        """Tokens of the longest prompt."""
        return max(row.prompt for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One file of vectors.

    Attributes:
        name: the file's name without `.json`.
        description: what its vectors have in common.
        source: where the rule that they test comes from.
        tests: the vectors.
    """

    name: str
    description: str
    source: str
    tests: tuple[Case, ...]


def vector_files(folder: Path = FOLDER) -> list[Path]:
    """The files of vectors in a folder, sorted; the schema is not one."""
    return sorted(path for path in folder.glob("*.json") if not path.name.endswith(".schema.json"))


def read_groups(folder: Path = FOLDER) -> tuple[Group, ...]:
    """Every group in a folder.

    Raises:
        NotFoundError: the folder holds no vectors.
        SpecError: a file does not have the format that `vectors.schema.json` describes.
    """
    files = vector_files(folder)
    if not files:
        raise NotFoundError(
            f"{folder} holds no vectors", hint="give the folder with the groups' *.json files"
        )
    return tuple(_group(path) for path in files)


def cases(groups: tuple[Group, ...]) -> Iterator[Case]:
    """Every vector of several groups, in order."""
    for group in groups:
        yield from group.tests


def invocation_of(adapter: str | None) -> tuple[int, ...]:
    """A shipped adapter's invocation ids, from its config; empty for the base model."""
    if adapter is None:
        return ()
    config = json.loads((ADAPTERS[adapter] / "adapter_config.json").read_bytes())
    ids = config["alora_invocation_tokens"]
    if not ids:
        raise DefectError(f"the shipped adapter {adapter} has no invocation")
    return tuple(ids)


def _group(path: Path) -> Group:
    try:
        document = json.loads(path.read_bytes())
        tolerance = float(document["tolerance"])
        tests = tuple(_case(one, tolerance) for one in document["tests"])
        description, source = document["description"], document["source"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise SpecError(
            f"{path} is not a file of vectors ({reason})", hint=f"check it against {SCHEMA.name}"
        ) from None
    return Group(name=path.stem, description=description, source=source, tests=tests)


def _case(one: Mapping[str, Any], tolerance: float) -> Case:
    padding = one.get("padding")
    return Case(
        id=one["id"],
        comment=one["comment"],
        source=one["source"],
        flags=frozenset(one["flags"]),
        rows=tuple(_row(row) for row in one["rows"]),
        history=tuple(
            Earlier(adapter=e["adapter"], invocation=tuple(e["invocation"]), ids=tuple(e["ids"]))
            for e in one.get("history", ())
        ),
        padding=Padding(side=padding["side"], id=padding["id"]) if padding else None,
        calls=tuple(one.get("calls", ())),
        separation=float(one["separation"]),
        tolerance=tolerance,
    )


def _row(row: Mapping[str, Any]) -> Row:
    return Row(
        adapter=row["adapter"],
        invocation=tuple(row["invocation"]),
        ids=tuple(row["ids"]),
        prompt=row["prompt"],
        active_from=row["active_from"],
        expected=tuple(
            Expected(position=e["position"], log_probs={int(t): float(v) for t, v in e["log_probs"].items()})
            for e in row["expected"]
        ),
    )
