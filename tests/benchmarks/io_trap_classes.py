"""Every class of cases on which a published executor is wrong, with who is right and why; see `io_traps`."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.io_cases import Case, Rng
from tests.benchmarks.io_traps import (
    argument_hidden,
    attribute_field,
    booleans,
    bracket_in_key,
    breaks_schema,
    constrained_channel,
    cut_tokens,
    digit_in_key,
    empty_document,
    empty_instruction,
    empty_token,
    extra_argument,
    glued_end,
    glued_quote,
    history_after_documents,
    list_argument,
    list_as_key,
    messages_parameter,
    missing_argument,
    misspelt_path,
    mixed_groups,
    negative,
    no_logprobs,
    not_a_number,
    null_beside,
    only_said,
    open_alternative,
    other_tokens,
    out_of_range,
    project_clash,
    project_missing,
    same_begin,
    shared_part,
    string_documents,
    tagged_text,
    true_as_number,
    true_is_one,
    two_values,
    uncovered,
    undecided,
    unnamed_documents,
    white_space,
    wrong_type,
)

EACH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """A class of cases, who is right in it and why."""

    make: Callable[[Rng], Case]
    right: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """What one package lacks, seen in plain cases."""

    name: str
    package: str
    reason: str
    applies: Callable[[Case, dict[str, Any]], bool]


def _steps(case: Case) -> list[dict[str, Any]]:
    return case["spec"].get("transformations") or []


def _boundaries(case: Case) -> dict[str, str]:
    return case["spec"].get("sentence_boundaries") or {}


def _has_duplicates(case: Case, said: dict[str, Any]) -> bool:
    return any(step["type"] == "drop_duplicates" for step in _steps(case))


GAPS = (
    Gap(
        name="history is not numbered",
        package="granite-common",
        reason="all_but_last_message was added by mellea",
        applies=lambda case, said: "error" in said and "all_but_last_message" in str(case["spec"]),
    ),
    Gap(
        name="tags without extra_body crash",
        package="granite-common",
        reason="the documents of a request that has no extra_body are looked for",
        applies=lambda case, said: (
            said.get("error") == "AttributeError"
            and bool(_boundaries(case))
            and "extra_body" not in case["request"]
        ),
    ),
    Gap(
        name="drop_duplicates does nothing",
        package="granite-common",
        reason="its key is a generator, which equals nothing; mellea has corrected it",
        applies=_has_duplicates,
    ),
)


def _trap(make: Callable[[Rng], Case], right: str, reason: str) -> tuple[str, Trap]:
    return make.__name__, Trap(make=make, right=right, reason=reason)


TRAPS = dict(
    (
        _trap(uncovered, "ours", "a value without a number gives 0.0 or an alternative's number: an error"),
        _trap(
            wrong_type, "ours", "YAML's bare yes is a boolean and never equals the text: an error, not 0.0"
        ),
        _trap(empty_token, "ours", "an empty token begins every category, theirs counts it for the first"),
        _trap(glued_quote, "ours", "a token with its quote has alternatives with theirs, not probability 1"),
        _trap(glued_end, "ours", "alternatives with the closing quote are categories too"),
        _trap(booleans, "ours", "Python's True is not the token true, so theirs sees no alternative"),
        _trap(undecided, "ours", "where the first token fits two categories, the next one decides"),
        _trap(
            open_alternative,
            "ours",
            "an alternative of two categories is no evidence for the first: an error",
        ),
        _trap(only_said, "ours", "without another token's probability there is nothing to weigh: an error"),
        _trap(cut_tokens, "ours", "no token says whether the number goes on: an error"),
        _trap(no_logprobs, "both", "an error; ours is typed"),
        _trap(other_tokens, "ours", "offsets of other text than the tokens' are meaningless: a typed error"),
        _trap(digit_in_key, "ours", "a digit in the first key is not a number"),
        _trap(null_beside, "ours", "null is a JSON value"),
        _trap(misspelt_path, "ours", "a transformation that finds nothing is an error"),
        _trap(breaks_schema, "ours", "a reply that breaks its schema is an error"),
        _trap(out_of_range, "ours", "a typed error with the path instead of an IndexError"),
        _trap(negative, "ours", "-1 is no sentence; theirs counts from the end"),
        _trap(true_as_number, "ours", "true is no sentence's number"),
        _trap(
            white_space,
            "ours",
            "caller_text[begin:end] is the text; theirs is of a text joined by single spaces",
        ),
        _trap(tagged_text, "ours", "a label in the text moves every number behind it: an error"),
        _trap(empty_document, "ours", "a document without sentences has no numbers"),
        _trap(empty_instruction, "ours", "an empty instruction is still a message, which theirs forgets"),
        _trap(history_after_documents, "ours", "decoding counts as rewriting did; theirs begins at 0"),
        _trap(
            string_documents, "ours", "decoding needs the caller's documents, not the message made of them"
        ),
        _trap(project_missing, "ours", "a field that is not there is an error, not null"),
        _trap(project_clash, "ours", "one of two values under one name would be lost"),
        _trap(list_as_key, "ours", "lists can be equal; theirs cannot hash them"),
        _trap(true_is_one, "ours", "true and 1 are different JSON"),
        _trap(same_begin, "both", "an error; ours is typed"),
        _trap(mixed_groups, "ours", "null is a JSON value, also as a group beside text"),
        _trap(shared_part, "ours", "a change to one record is none to its copy"),
        _trap(missing_argument, "both", "an error; ours is typed"),
        _trap(extra_argument, "ours", "a misspelt argument is an error, not ignored"),
        _trap(argument_hidden, "ours", "an argument that the request's last message hides is an error"),
        _trap(attribute_field, "ours", "templates do not reach into objects"),
        _trap(list_argument, "ours", "Python's spelling of a list is no prompt"),
        _trap(messages_parameter, "ours", "a contract does not replace the conversation"),
        _trap(unnamed_documents, "ours", "a document called None is a slip: an error"),
        _trap(two_values, "ours", "two values of one key: an error, not the last one"),
        _trap(not_a_number, "ours", "NaN and Infinity are no JSON"),
        _trap(bracket_in_key, "ours", "brackets, commas and null in the first key are text"),
        _trap(constrained_channel, "ours", "a final channel's header may name a constraint"),
    )
)


def trap_cases(seed: int) -> list[Case]:
    rng = random.Random(seed)
    return [trap.make(rng) | {"trap": name} for name, trap in TRAPS.items() for _ in range(EACH)]
