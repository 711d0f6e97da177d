"""What is measured in one engine: its answers, held against the reference and against itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.activation import Convention, History
from zoo.errors import UndecidedError
from zoo.prompts import Prompt
from zoo.validators.conformance.engines.engine import Engine, Request
from zoo.validators.conformance.engines.expectation import (
    BASE,
    RULE,
    Expectations,
    apart,
    candidates,
    distance,
    known_mask,
)

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session

PROMPTS = 3
CONTINUED = 3  # forced tokens after a prompt
MAX_TOKENS = 1024  # of a prompt
STAGE = "engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question to the adapter, cold, and how far the answer is from each expectation, in nats.

    Attributes:
        label: names the prompt.
        decoded: how many forced tokens stand behind the prompt.
        known: to the reference under the engine's known convention.
        distances: to the reference under other masks, by their names.
        misses: the known convention leaves the adapter off where the rule has it on.
        deviates: the known convention's mask is not the rule's.
        noise: of the base's answer to the same question, to our base.
        effect: between the engine's own two answers, adapter and base.
        control: from the expectation under the known convention to the nearest one with a shifted start.
    """

    label: str
    decoded: int
    known: float
    distances: Mapping[str, float]
    misses: bool
    deviates: bool
    noise: float
    effect: float
    control: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """One prompt after the engine was given its prefix by the base, against the cold run.

    Attributes:
        label: names the prompt.
        prefix: tokens of the prefix.
        apart: the adapter's two answers, in nats.
        noise: the base's two answers, in nats: what another chunking alone does.
        reused: tokens that were taken from the cache; None where the engine does not tell.
    """

    label: str
    prefix: int
    apart: float
    noise: float
    reused: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEvidence:
    """All that was measured in one engine.

    Attributes:
        convention: what was known of it beforehand.
        exact: it runs float32 copies of the very weights it is compared with.
        probes: see `Probe`.
        handed: hand-over, by prompt.
        histories: by what was served last, how far a warm answer is from the cold one, in nats.
    """

    convention: Convention
    exact: bool
    probes: list[Probe]
    handed: list[Handed]
    histories: Mapping[History, float]


def measure_engine(engine: Engine, session: "Session", *, exact: bool) -> EngineEvidence:
    """Asks a running engine everything that the checks judge.

    Raises:
        EngineError: it failed in between.
        UndecidedError: no prompt is short enough.
    """
    prompts = [prompt for prompt in session.short_prompts if len(prompt.ids) <= MAX_TOKENS][:PROMPTS]
    if not prompts:
        raise UndecidedError(
            f"no prompt has at most {MAX_TOKENS} tokens", hint="add a short sample to zoo.yaml"
        )
    probes: list[Probe] = []
    handed: list[Handed] = []
    for index, prompt in enumerate(prompts):
        session.progress(STAGE, done=index, total=len(prompts) + 1, note=f"{len(prompt.ids)} tokens")
        label = f"prompt {session.prompts.index(prompt)}"
        asked = _ask(engine, prompt)
        probes += _probes(asked, session, engine.convention, label)
        if prompt.start:
            handed.append(_handed(engine, prompt, label, asked[0]))
    session.progress(STAGE, done=len(prompts), total=len(prompts) + 1, note="what stays in its cache")
    histories = _histories(engine, prompts[0], session.invocation)
    session.progress(STAGE, done=len(prompts) + 1, total=len(prompts) + 1)
    return EngineEvidence(
        convention=engine.convention, exact=exact, probes=probes, handed=handed, histories=histories
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    ids: tuple[int, ...]
    adapted: Mapping[int, float]
    base: Mapping[int, float]


def _ask(engine: Engine, prompt: Prompt) -> list[_Asked]:
    """Cold answers after the prompt, and after each token that the engine itself would go on with."""
    found = []
    ids = prompt.ids
    for _ in range(CONTINUED + 1):
        adapted = engine.log_probs(Request(ids=ids))
        base = engine.log_probs(Request(ids=ids, adapter=False))
        found.append(_Asked(ids=ids, adapted=adapted, base=base))
        ids = (*ids, max(adapted, key=adapted.__getitem__))
    return found


def _probes(asked: list[_Asked], session: "Session", convention: Convention, label: str) -> list[Probe]:
    expectations, longest = Expectations(session), asked[-1].ids
    masks = [*candidates(longest, session.invocation).values()]
    masks.append(known_mask(longest, session.invocation, convention))
    for mask in {tuple(mask) for mask in masks}:
        expectations.along(longest, mask, kept=len(asked))
    return [
        _probe(one, expectations, session.invocation, convention, (label, decoded))
        for decoded, one in enumerate(asked)
    ]


def _probe(
    asked: _Asked,
    expectations: Expectations,
    invocation: tuple[int, ...],
    convention: Convention,
    name: tuple[str, int],
) -> Probe:
    masks = candidates(asked.ids, invocation)
    rule, known = masks[RULE], known_mask(asked.ids, invocation, convention)
    expected = expectations.after(asked.ids, known)
    elsewhere = [expectations.after(asked.ids, mask) for mask in masks.values() if mask != known]
    return Probe(
        label=name[0],
        decoded=name[1],
        known=distance(asked.adapted, expected),
        distances={
            key: distance(asked.adapted, expectations.after(asked.ids, mask)) for key, mask in masks.items()
        },
        misses=True in rule and True not in known,
        deviates=known != rule,
        noise=distance(asked.base, expectations.after(asked.ids, masks[BASE])),
        effect=apart(asked.adapted, asked.base),
        control=min((float((other - expected).abs().max()) for other in elsewhere), default=0.0),
    )


def _handed(engine: Engine, prompt: Prompt, label: str, cold: _Asked) -> Handed:
    warm = engine.log_probs(Request(ids=prompt.ids, prefix=prompt.start))
    reused = getattr(engine, "reused", None)  # engines that cannot tell have no such attribute
    base = engine.log_probs(Request(ids=prompt.ids, adapter=False, prefix=prompt.start))
    return Handed(
        label=label,
        prefix=prompt.start,
        apart=apart(warm, cold.adapted),
        noise=apart(base, cold.base),
        reused=reused,
    )


def _histories(engine: Engine, prompt: Prompt, invocation: tuple[int, ...]) -> dict[History, float]:
    """Each request sequence that a cache can go wrong on: the last answer, warm, against its cold run."""
    first, rest = prompt.ids, prompt.prefix or invocation
    later = (*first, *rest, *invocation)
    opened = (*invocation, *rest)
    missed = (*first, invocation[-1])
    sequences: dict[History, list[Request]] = {
        History.BASE_AGAIN: [Request(ids=first), Request(ids=first, adapter=False)],
        History.LATER_TURN: [Request(ids=first), Request(ids=later)],
        History.INVOCATION_FIRST: [Request(ids=opened, adapter=False), Request(ids=opened)],
        History.MISSED: [Request(ids=first), Request(ids=missed), Request(ids=missed, adapter=False)],
    }
    found = {}
    for history, (start, *others) in sequences.items():
        last = others[-1]
        cold = engine.log_probs(last)
        engine.log_probs(start)
        warm: Mapping[int, float] = {}
        for request in others:
            warm = engine.log_probs(Request(ids=request.ids, adapter=request.adapter, reuse=True))
        found[history] = apart(warm, cold)
    return found
