"""The vectors without their numbers: what each one asks. A new vector is a line here."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.vectors.make_model import MERGED, READABLE, VOCABULARY
from zoo.validators.conformance.vectors.case import Earlier, Padding, invocation_of

RULE = "peft 0.21.2, tuners/lora/variants.py, calculate_alora_offsets and ALoraLinearVariant.forward"
PAPER = "arXiv 2504.12397, section 3"
A, B, C = (list(invocation_of(name)) for name in "abc")
X, Y = C[0], C[2]
PAD = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One row: its adapter, its prompt, and what was decoded after it."""

    adapter: str | None
    prompt: Sequence[int]
    decoded: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    id: str
    comment: str
    rows: Sequence[Ask]
    source: str = RULE
    history: Sequence[Earlier] = ()
    padding: Padding | None = None
    calls: Sequence[int] = ()
    embeds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftGroup:
    name: str
    description: str
    drafts: Callable[[], Iterator[Draft]]
    source: str = field(default=f"{RULE}; {PAPER}")


def text(count: int, seed: int) -> list[int]:
    """Ids that belong to no invocation and are not special; the seeds are chosen for a wide separation."""
    draw = random.Random(seed)
    taken = {*A, *B, *C, A[2] + 1}
    allowed = [*range(*READABLE), *range(MERGED, VOCABULARY)]
    return draw.choices([token for token in allowed if token not in taken], k=count)


def one(
    id: str,
    comment: str,
    adapter: str | None,
    prompt: Sequence[int],
    **rest: object,
) -> Draft:
    return Draft(id=id, comment=comment, rows=[Ask(adapter=adapter, prompt=prompt)], **rest)  # type: ignore[arg-type]


def earlier(adapter: str | None, ids: Sequence[int]) -> Earlier:
    return Earlier(adapter=adapter, invocation=invocation_of(adapter), ids=tuple(ids))


def occurrences() -> Iterator[Draft]:
    t = text(30, 104)
    yield one("once-in-the-middle", "one occurrence", "a", t[:8] + A + t[8:13])
    yield one("last-of-two", "the last occurrence counts", "a", t[:5] + A + t[5:9] + A + t[9:13])
    yield one("last-of-three", "the last occurrence counts", "a", A + t[:3] + A + t[3:6] + A + t[6:10])
    yield one("at-position-0", "the prompt begins with it: every token is adapted", "a", A + t[:9])
    yield one("at-position-1", "one token is before it", "a", t[:1] + A + t[1:9])
    yield one("at-the-very-end", "the prompt ends with it", "a", t[:10] + A)
    yield one("nothing-but-the-invocation", "the prompt is the invocation", "a", A)
    yield one("twice-in-a-row", "one occurrence directly after another", "a", t[:6] + A + A + t[6:10])
    yield one("single-token-in-the-middle", "an invocation of one token", "b", t[:7] + B + t[7:12])
    yield one("single-token-at-position-0", "an invocation of one token", "b", B + t[:8])
    yield one("single-token-at-position-1", "an invocation of one token", "b", t[:1] + B + t[1:8])
    yield one("single-token-at-the-very-end", "the last token alone is adapted", "b", t[:9] + B)
    yield one("single-token-alone", "the prompt is one token, the invocation", "b", B)
    yield one("single-token-last-of-two", "the last occurrence counts", "b", t[:4] + B + t[4:7] + B + t[7:11])
    yield one("single-token-twice-in-a-row", "the second of the two counts", "b", t[:6] + B + B + t[6:10])


def partial() -> Iterator[Draft]:
    t = text(30, 7)
    yield one("cut-at-the-end", "truncation took its last token: absent", "a", t[:9] + A[:2])
    yield one("cut-at-the-start", "truncation took its first token: absent", "a", A[1:] + t[:9])
    yield one("first-token-only", "its first token alone is no occurrence", "a", t[:6] + A[:1] + t[6:10])
    yield one("last-token-only", "its last token alone is no occurrence", "a", t[:6] + A[2:] + t[6:10])
    yield one("interrupted", "a token stands inside: absent", "a", t[:5] + A[:2] + t[5:6] + A[2:] + t[6:10])
    yield one("out-of-order", "its tokens in another order: absent", "a", t[:5] + A[::-1] + t[5:9])
    yield one(
        "part-after-the-whole",
        "a later beginning of it does not move the start",
        "a",
        t[:5] + A + t[5:8] + A[:2] + t[8:10],
    )
    yield one(
        "cut-after-the-whole", "the prompt ends with a beginning of it", "a", t[:5] + A + t[5:8] + A[:2]
    )
    yield one("part-before-the-whole", "a beginning directly before it", "a", t[:6] + A[:2] + A + t[6:10])
    yield one(
        "first-token-repeated", "its first token twice, then the rest", "a", t[:7] + A[:1] + A + t[7:11]
    )
    yield one("last-token-repeated", "its last token twice: still found", "a", t[:7] + A + A[2:] + t[7:11])
    yield one("last-token-repeated-at-the-end", "the prompt ends so", "a", t[:8] + A + A[2:])
    yield one("last-two-repeated", "it is followed by its own end", "a", t[:7] + A + A[1:] + t[7:10])


def overlapping() -> Iterator[Draft]:
    t = text(30, 81)
    yield one("c-once", "an invocation that begins as it ends", "c", t[:6] + C + t[6:9])
    yield one(
        "c-overlaps-by-two", "two share two tokens: the later one counts", "c", t[:5] + C + C[2:] + t[5:8]
    )
    yield one(
        "c-overlaps-by-one", "two share one token: the later one counts", "c", t[:5] + C + C[1:] + t[5:8]
    )
    yield one("c-three-overlapping", "the last of three counts", "c", t[:4] + C + C[2:] + C[2:] + t[4:7])
    yield one("c-overlap-cut", "the second one is cut: the first counts", "c", t[:5] + C + C[2:4])
    yield one("c-led-by-its-first-token", "three equal tokens, then the rest", "c", [*t[:6], X, *C, *t[6:9]])
    yield one("c-followed-by-its-last-token", "three equal tokens at its end", "c", t[:6] + C + [X] + t[6:9])
    yield one("c-almost", "two beginnings, none whole: absent", "c", [*t[:5], X, X, Y, X, Y, X, X, *t[5:8]])
    yield one("c-at-position-0-and-overlapping", "the overlap begins at position 3", "c", C + C[2:] + t[:4])
    yield one("c-overlapping-at-the-very-end", "the prompt ends with the later one", "c", t[:6] + C + C[1:])


def absent() -> Iterator[Draft]:
    t = text(30, 45)
    yield one("absent", "no occurrence: the base model", "a", t[:12])
    yield one("absent-single-token", "no occurrence: the base model", "b", t[12:22])
    yield one("absent-in-one-token", "a prompt shorter than the invocation", "a", t[22:23])
    yield one("absent-all-but-equal", "one id of it differs", "a", [*t[:6], *A[:2], A[2] + 1, *t[6:9]])
    yield one("another-adapters-invocation", "B's invocation does not invoke A", "a", t[:6] + B + t[6:10])


def batches() -> Iterator[Draft]:
    t = text(60, 67)

    def rows(*prompts: Sequence[int]) -> list[Ask]:
        return [Ask(adapter="a", prompt=prompt) for prompt in prompts]

    equal = rows(t[:4] + A + t[4:9], t[9:17] + A + t[17:18], A + t[18:27], t[27:39])
    yield Draft(
        id="rows-with-different-starts", comment="each row has its own start; one has none", rows=equal
    )
    yield Draft(
        id="rows-with-two-occurrences",
        comment="in each row its own last occurrence",
        rows=rows(A + t[:2] + A + t[2:6], t[6:9] + A + t[9:12] + A, t[12:18] + A + t[18:21]),
    )
    yield Draft(
        id="occurrence-across-two-rows",
        comment="one row ends as it begins, the next goes on: absent in both",
        rows=rows(t[:8] + A[:2], A[2:] + t[8:17]),
    )
    uneven = rows(t[:4] + A + t[4:11], t[11:14] + A + t[14:16], t[16:22], A + t[22:23])
    for side in ("left", "right"):
        padding = Padding(side=side, id=PAD)
        yield Draft(
            id=f"padding-{side}", comment=f"four lengths, padded {side}", rows=uneven, padding=padding
        )
        yield Draft(
            id=f"padding-{side}-at-the-edges",
            comment="the invocation ends one row and begins another",
            rows=rows(t[:9] + A, A + t[9:13], t[13:15] + A),
            padding=padding,
        )
        inside = Padding(side=side, id=A[2])
        yield Draft(
            id=f"padding-{side}-id-ends-the-invocation",
            source=f"{RULE}; run against it",
            comment="padded with the invocation's last token; one row ends with all of it but that token",
            rows=rows(t[:5] + A + t[5:9], t[9:14] + A + t[14:15], t[15:20] + A[:2]),
            padding=inside,
        )
        begins = Padding(side=side, id=A[0])
        yield Draft(
            id=f"padding-{side}-id-begins-the-invocation",
            source=f"{RULE}; run against it",
            comment="padded with the invocation's first token; one row begins with the rest of it",
            rows=rows(t[:5] + A + t[5:9], A[1:] + t[9:16], t[16:20] + A + t[20:21]),
            padding=begins,
        )
        whole = Padding(side=side, id=B[0])
        yield Draft(
            id=f"padding-{side}-id-is-the-invocation",
            source=f"{RULE}; run against it",
            comment="padded with the invocation itself, as where it is the end of a turn",
            rows=[
                Ask(adapter="b", prompt=prompt)
                for prompt in (t[:5] + B + t[5:10], t[10:13] + B + t[13:15], t[15:20])
            ],
            padding=whole,
        )
        yield Draft(
            id=f"padding-{side}-id-in-the-prompt",
            comment="the padding's id is also a real token of the prompts, which must be attended to",
            rows=rows([*t[:3], PAD, *A, *t[3:7]], [PAD, *t[7:9], *A, PAD]),
            padding=padding,
        )


def turns() -> Iterator[Draft]:
    t = text(60, 82)
    first = t[:6] + A + t[6:10]
    yield one(
        "second-turn-invokes-again",
        "the first turn counts as base text",
        "a",
        first + t[10:14] + A + t[14:16],
    )
    yield one(
        "second-turn-without-invocation", "the first turn's invocation still counts", "a", first + t[16:22]
    )
    yield one(
        "third-turn-invokes-again", "only the last turn is adapted", "a", first + A + t[22:25] + A + t[25:27]
    )
    yield one("turn-of-another-adapter", "A's turn is base text to B", "b", first + t[27:30] + B + t[30:32])


def cache() -> Iterator[Draft]:
    t = text(80, 24)
    prompt = t[:9] + A + t[9:12]
    yield one(
        "base-prefilled-the-prefix",
        "the base's KV up to the invocation is the adapter's",
        "a",
        prompt,
        history=[earlier(None, prompt[:9])],
    )
    yield one(
        "base-prefilled-less",
        "a part of the prefix is reused",
        "a",
        prompt,
        history=[earlier(None, prompt[:5])],
    )
    for count in (1, 2, 3):
        yield one(
            f"base-prefilled-{count}-of-the-invocation",
            f"the base ran over {count} of its 3 tokens: those cannot be reused",
            "a",
            prompt,
            history=[earlier(None, prompt[: 9 + count])],
            source=f"{RULE}; run against it",
        )
    yield one(
        "base-prefilled-everything",
        "the base answered the same prompt first",
        "a",
        prompt,
        history=[earlier(None, prompt)],
    )
    yield one(
        "position-0-after-the-base",
        "nothing of the base's KV can be reused",
        "a",
        A + t[12:19],
        history=[earlier(None, A + t[12:19])],
        source="llama.cpp server, run against PEFT",
    )
    yield one(
        "base-after-the-adapter",
        "the base must not reuse adapted KV",
        None,
        prompt + t[19:21],
        history=[earlier("a", prompt)],
        source="llama.cpp server, run against PEFT; llama.cpp issue 26207",
    )
    yield one(
        "absent-after-the-adapter",
        "without an invocation of its own it must not reuse adapted KV",
        "b",
        prompt + t[21:23],
        history=[earlier("a", prompt)],
    )
    yield one(
        "b-after-a",
        "B invoked later must not reuse what A adapted",
        "b",
        prompt + t[23:26] + B + t[26:28],
        history=[earlier("a", prompt)],
        source="llama.cpp server, run against PEFT",
    )
    yield one(
        "same-turn-goes-on",
        "no second invocation: the adapted KV is right",
        "a",
        prompt + t[28:32],
        history=[earlier("a", prompt)],
    )
    yield one(
        "second-turn-after-the-first",
        "invoked again: the first turn's adapted KV is wrong",
        "a",
        prompt + t[32:35] + A + t[35:37],
        history=[earlier("a", prompt)],
        source="peft 0.21.2 and llama.cpp server, run",
    )
    yield one(
        "back-to-the-base-and-again",
        "base, adapter, base, then the adapter once more",
        "a",
        prompt + t[37:40] + A,
        history=[
            earlier(None, prompt[:9]),
            earlier("a", prompt),
            earlier(None, prompt[:9] + t[37:40]),
        ],
    )


def chunks() -> Iterator[Draft]:
    t = text(40, 109)
    prompt = t[:7] + A + t[7:11]
    for boundary in range(1, len(prompt)):
        yield one(
            f"two-calls-at-{boundary:02}",
            f"prefilled in two calls, the second from position {boundary}",
            "a",
            prompt,
            calls=[boundary, len(prompt) - boundary],
        )
    yield one(
        "three-uneven-calls",
        "the invocation is cut, and no call is longer than the next",
        "a",
        prompt,
        calls=[3, 5, 6],
    )
    again = t[11:13] + A + t[13:17] + A + t[17:20]
    for size in (4, 5, 8):
        sizes = [size] * (len(again) // size) + [len(again) % size] * bool(len(again) % size)
        yield one(f"calls-of-{size}", f"prefilled {size} tokens a call", "a", again, calls=sizes)
    yield one("token-by-token", "each call has one token", "a", prompt, calls=[1] * len(prompt))
    single = t[20:25] + B + t[25:28]
    yield one("token-by-token-single", "an invocation of one token", "b", single, calls=[1] * len(single))
    double = t[28:31] + C + C[2:] + t[31:33]
    yield one("token-by-token-overlapping", "it overlaps itself", "c", double, calls=[1] * len(double))
    yield one("two-calls-in-the-overlap", "the boundary is inside", "c", double, calls=[7, len(double) - 7])
    yield one("two-calls-absent", "no occurrence in any call", "a", t[33:40] + A[:2], calls=[4, 5])


def decoding() -> Iterator[Draft]:
    t = text(60, 31)

    def row(adapter: str | None, prompt: list[int], decoded: list[int]) -> Ask:
        return Ask(adapter=adapter, prompt=prompt, decoded=decoded)

    prompt = t[:6] + A + t[6:8]
    yield Draft(id="decoded-tokens", comment="decoded tokens are adapted", rows=[row("a", prompt, t[8:12])])
    yield Draft(
        id="decoded-after-the-very-end",
        comment="decoded directly after the invocation",
        rows=[row("a", t[:7] + A, t[12:15])],
    )
    yield Draft(
        id="decoded-without-invocation",
        comment="no occurrence: decoded tokens are the base's",
        rows=[row("a", t[15:23], t[23:26])],
    )
    yield Draft(
        id="decoded-invocation",
        comment="what the model itself decodes does not invoke",
        rows=[row("a", t[26:34], [*A, t[34]])],
    )
    yield Draft(
        id="decoded-invocation-again",
        comment="what the model itself decodes does not move the start",
        rows=[row("a", prompt, [*A, t[35]])],
    )
    yield Draft(
        id="decoded-end-of-the-invocation",
        comment="begun in the prompt, ended by decoding: absent",
        rows=[row("a", t[36:42] + A[:2], [*A[2:], t[42]])],
    )
    yield Draft(
        id="decoded-single-token",
        comment="decoding B's one token does not invoke B",
        rows=[row("b", t[43:50], [*B, t[50]])],
    )
    yield Draft(
        id="decoded-in-a-padded-batch",
        comment="three starts, one absent, decoded together",
        padding=Padding(side="left", id=PAD),
        rows=[
            row("a", t[:6] + A + t[6:9], t[9:12]),
            row("a", A + t[12:14], t[14:17]),
            row("a", t[17:21], t[21:24]),
        ],
    )


def mixed() -> Iterator[Draft]:
    t = text(60, 10)
    same = [
        Ask(adapter="a", prompt=t[:4] + A + t[4:7]),
        Ask(adapter="b", prompt=t[7:13] + B + t[13:16]),
        Ask(adapter=None, prompt=t[16:20] + A + t[20:23]),
    ]
    yield Draft(id="a-b-and-base", comment="a row each, all with their own rule", rows=same)
    both = t[23:26] + A + t[26:28] + B + t[28:30]
    yield Draft(
        id="one-prompt-three-ways",
        comment="the same prompt with both invocations, for A, B and the base",
        rows=[Ask(adapter=name, prompt=both) for name in ("a", "b", None)],
    )
    yield Draft(
        id="crossed-invocations",
        comment="A's row holds B's invocation and the other way round: both absent",
        rows=[
            Ask(adapter="a", prompt=t[30:35] + B + t[35:39]),
            Ask(adapter="b", prompt=t[39:43] + A + t[43:46]),
        ],
    )
    yield Draft(
        id="a-b-and-base-padded",
        comment="three lengths, padded left",
        padding=Padding(side="left", id=PAD),
        rows=[
            Ask(adapter="b", prompt=t[:8] + B + t[8:11]),
            Ask(adapter=None, prompt=t[11:15] + B),
            Ask(adapter="a", prompt=t[15:17] + A + t[17:19]),
        ],
    )


def base_rows() -> Iterator[Draft]:
    t = text(60, 83)
    yield one("base-plain", "the base model", None, t[:10])
    yield one("base-with-an-invocation", "an invocation means nothing to the base", None, t[:6] + A + t[6:9])
    yield Draft(
        id="base-rows",
        comment="a batch of base rows with an adapter loaded",
        rows=[
            Ask(adapter=None, prompt=t[9:14] + A + t[14:16]),
            Ask(adapter=None, prompt=t[16:20] + B + t[20:25]),
        ],
    )


def embeds() -> Iterator[Draft]:
    t = text(40, 48)
    yield one(
        "embeds", "given as embeddings, with the ids told beside them", "a", t[:7] + A + t[7:10], embeds=True
    )
    yield one("embeds-absent", "given as embeddings, no occurrence", "a", t[10:20], embeds=True)
    yield one("embeds-single-token", "given as embeddings", "b", t[20:26] + B + t[26:29], embeds=True)


GROUPS = (
    DraftGroup(
        name="occurrences", description="Where one or several whole occurrences stand.", drafts=occurrences
    ),
    DraftGroup(
        name="partial", description="Parts of the invocation, alone and beside a whole one.", drafts=partial
    ),
    DraftGroup(name="overlapping", description="An invocation that overlaps itself.", drafts=overlapping),
    DraftGroup(name="absent", description="No occurrence: the adapter is off.", drafts=absent),
    DraftGroup(
        name="batches", description="Several rows in one call, with and without padding.", drafts=batches
    ),
    DraftGroup(name="turns", description="Several turns in one prompt, nothing cached.", drafts=turns),
    DraftGroup(
        name="cache", description="KV of earlier requests: reusing it changes no answer.", drafts=cache
    ),
    DraftGroup(
        name="chunks",
        description="The prompt in several calls: no boundary changes an answer.",
        drafts=chunks,
    ),
    DraftGroup(name="decoding", description="Tokens decoded after the prompt.", drafts=decoding),
    DraftGroup(name="mixed", description="Rows for two adapters and the base in one call.", drafts=mixed),
    DraftGroup(name="base-rows", description="Rows for the base model alone.", drafts=base_rows),
    DraftGroup(name="embeds", description="Embeddings instead of ids.", drafts=embeds),
)
