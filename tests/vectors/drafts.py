"""The vectors without their numbers: what each one asks. A new vector is a line here."""

from collections.abc import Iterator, Sequence

from tests.vectors.call_drafts import base_rows, cache, chunks, decoding, embeds, mixed, turns
from tests.vectors.draft import PAD, RULE, A, Ask, B, C, Draft, DraftGroup, X, Y, one, text
from zoo.validators.conformance.vectors.case import Padding


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
