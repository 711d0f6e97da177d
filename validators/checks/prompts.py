"""Checks ZT… and ZI004, ZI005, ZI008: the invocation in rendered prompts, as a server would see it."""

import json
from collections.abc import Iterator, Mapping

from zoo.activation import occurrences
from zoo.provenance import sha256_bytes, sha256_file
from zoo.report import Finding, Location, Severity
from zoo.specs.release import Position
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.invocation import KEY
from zoo.validators.places import in_config, in_release

LISTED = 3
_EDGES = "begin and end the invocation with special tokens, or with a line break the tokenizer keeps apart"

# What may stand beside an invocation inside a message. Whoever writes the request puts a break or a space
# there, or the invocation directly behind a sentence; letters and digits directly beside it are unusual.
USUAL: Mapping[str, str] = {"\n": "a line break", " ": "a space", ".": "a full stop", "\n\n": "an empty line"}
UNUSUAL: Mapping[str, str] = {
    "x": "a letter",
    "7": "a digit",
    ">": "a bracket",
    "é": "an accented letter",
    "字": "a Han character",
}


def _renders(context: Context) -> Iterator[Finding | Measurement]:
    rendering = context.rendering
    yield Measurement(name="prompts", value=len(rendering.texts) + len(rendering.quoted))
    yield Measurement(name="own_samples", value=rendering.own)
    if rendering.system_refused:
        yield Measurement(name="system_messages", value="refused by the template, so not rendered")


def _own_template(context: Context) -> Iterator[Finding]:
    root, base = context.repo.root, context.known_base
    if (root / "tokenizer.json").is_file() and sha256_file(root / "tokenizer.json") != sha256_file(
        base.tokenizer_path
    ):
        yield _differs("tokenizer.json", base.id)
    if (root / "chat_template.jinja").is_file():
        shipped = (root / "chat_template.jinja").read_bytes()
        if sha256_bytes(shipped) != sha256_bytes(base.chat_template.encode()):
            yield _differs("chat_template.jinja", base.id)
    for name in ("tokenizer_config.json", "chat_template.json"):
        if not (root / name).is_file():
            continue
        content = json.loads((root / name).read_bytes())
        if not isinstance(content, dict):
            continue
        if "auto_map" in content:
            yield Finding(message=f"{name} has auto_map, which names code to load",
                          location=Location(file=name), fix="remove it: the base has its own")  # fmt: skip
        template = content.get("chat_template")
        if isinstance(template, str) and template != base.chat_template:
            yield _differs(name, base.id)


def _differs(name: str, base: str) -> Finding:
    return Finding(
        message=f"{name} is not the one of {base}: who loads it renders prompts that nothing here has seen",
        severity=Severity.WARNING,
        location=Location(file=name),
        fix="remove it; prompts are the base model's",
    )


def _in_prompts(context: Context) -> Iterator[Finding | Measurement]:
    lost, misplaced, repeated = [], [], 0
    for index, text in enumerate(context.rendering.texts):
        ids = context.prompter.encode(text)
        found = occurrences(ids, context.invocation.ids)
        if not found:
            lost.append((index, "its tokens merge with their neighbours" if context.invocation.text in text
                         else "its text is not there"))  # fmt: skip
        elif not _in_place(context, text, ids, found[-1]):
            misplaced.append(index)
        repeated += len(found) > 1
    count = len(context.rendering.texts)
    where = _where(context)
    if lost:
        reasons = " and ".join(sorted({reason for _, reason in lost}))
        yield Finding(
            message=f"the invocation {context.invocation.text!r} is missing from {len(lost)} of {count} "
            f"tokenised prompts, where the adapter can never act: {reasons} "
            f"(conversations {_listed([i for i, _ in lost])})",
            location=where,
            fix=_EDGES,
        )
    if misplaced:
        yield Finding(
            message=f"the invocation's last occurrence is not at {context.invocation.position.value} in "
            f"{len(misplaced)} of {count} prompts (conversations {_listed(misplaced)})",
            location=where,
            fix="state the position at which it was trained in zoo.yaml, and check the template",
        )
    if repeated:
        yield Finding(
            message=f"the template itself writes the invocation more than once in {repeated} of {count} "
            "prompts; the last one counts, so earlier turns are the base model's",
            severity=Severity.INFO,
            location=where,
        )
    yield Measurement(name="prompts_with_invocation_in_place", value=count - len(lost) - len(misplaced))


def _in_place(context: Context, text: str, ids: tuple[int, ...], start: int) -> bool:
    """Whether an occurrence is at the prompt's end, or in a message where the text last stands."""
    invocation = context.invocation
    if invocation.position is not Position.IN_MESSAGE:
        return start + len(invocation.ids) == len(ids)
    offsets = context.prompter.tokenizer.encode(text, add_special_tokens=False).offsets
    written = text.rfind(invocation.text)
    return written >= 0 and offsets[start][0] in (
        written,
        written - 1,
    )  # some tokenizers count the space before


def _edges_hold(context: Context) -> Iterator[Finding | Measurement]:
    in_message = context.invocation.position is Position.IN_MESSAGE
    for kind, neighbours in (("usual", USUAL), ("unusual", UNUSUAL)):
        before = [what for c, what in neighbours.items() if not _survives(context, c, "")]
        after = [what for c, what in neighbours.items() if in_message and not _survives(context, "", c)]
        for side, broken in (("before", before), ("after", after)):
            # behind a prompt only the template's own ending can stand before it, and ZI004 has rendered that
            error = in_message and kind == "usual"
            if broken:
                yield Finding(
                    message=f"the invocation {context.invocation.text!r} is tokenised differently with "
                    f"{', '.join(broken)} {side} it: the adapter is silently off there",
                    severity=Severity.ERROR if error else Severity.WARNING,
                    location=_where(context),
                    fix=_EDGES,
                )
    yield Measurement(name="neighbours_tried", value=(len(USUAL) + len(UNUSUAL)) * (2 if in_message else 1))


def _survives(context: Context, before: str, after: str) -> bool:
    invocation = context.invocation
    text = f"Some words{before}{invocation.text}{after}{'more' if after else ''}"
    return bool(occurrences(context.prompter.encode(text), invocation.ids))


def _not_moved_by_users(context: Context) -> Iterator[Finding | Measurement]:
    if context.invocation.position is Position.IN_MESSAGE:
        yield Finding(
            message="the invocation stands inside a message: user text behind it that repeats it moves the "
            "activation, and so can weaken the adapter",
            severity=Severity.WARNING,
            location=_where(context),
            fix="encode user text with special tokens off, or use the position after_prompt",
        )
        return
    for index, text in enumerate(context.rendering.quoted):
        ids = context.prompter.encode(text)
        found = occurrences(ids, context.invocation.ids)
        if not found or not _in_place(context, text, ids, found[-1]):
            yield Finding(
                message=f"a user who writes {context.invocation.text!r} moves or hides the activation "
                f"(quotation {index})",
                location=_where(context),
                fix=_EDGES,
            )
    yield Measurement(name="quotations", value=len(context.rendering.quoted))


def _where(context: Context) -> Location:
    root = context.repo.root
    return in_release(root, "invocation.text") if context.repo.release else in_config(root, KEY)


def _listed(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:LISTED]))
    return f"{shown}, …" if len(indices) > LISTED else shown


_BASE = frozenset({Need.BASE})
_RENDERED = ("ZI003", "ZT001")
PROMPT_CHECKS = (
    Check(code="ZT001", title="The base's chat template renders", run=_renders,
          requires=("ZC001", "ZI001", "ZM001"), needs=_BASE),
    Check(code="ZT002", title="The adapter ships no template of its own", run=_own_template,
          requires=("ZF003",), needs=_BASE),
    Check(code="ZI004", title="The invocation survives tokenisation where it belongs", run=_in_prompts,
          requires=_RENDERED, needs=_BASE),
    Check(code="ZI005", title="The invocation's edges merge with nothing", run=_edges_hold,
          requires=("ZI003",), needs=_BASE),
    Check(code="ZI008", title="User text cannot move the invocation", run=_not_moved_by_users,
          requires=("ZI004",), needs=_BASE),
)  # fmt: skip
