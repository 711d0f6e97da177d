"""The vectors of several calls: turns, caches, chunks, decoding, adapters and base rows together."""

from collections.abc import Iterator

from tests.vectors.draft import PAD, RULE, A, Ask, B, C, Draft, earlier, one, text
from zoo.validators.conformance.vectors.case import Padding


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
