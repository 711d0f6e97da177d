"""Faults that authors make in the data of an `io.yaml`: operators that yield where and how they change it."""

# mypy: disable-error-code="misc"
# a default binds the loop's value to a lambda, whose type mypy then does not infer

import copy
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from tests.specs.fault_places import Change, Data, edit, misspelt, rekeyed, rules_of, without
from tests.specs.schema_faults import (
    reference_broken,
    schema_field_optional,
    schema_field_renamed,
    schema_is_none,
    schema_number,
    schema_of_another_type,
    schema_value_added,
    schema_value_dropped,
    schema_value_misspelt,
    schema_without_enum,
)


def category_dropped(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "likelihood"):
        for key in rule["categories_to_values"]:
            yield f"{index}.{key}", without(("transformations", index, "categories_to_values"), key)


def category_misspelt(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "likelihood"):
        for key in rule["categories_to_values"]:
            if isinstance(key, str):
                new = misspelt(key) if not key.isdigit() else key + "0"
                yield f"{index}.{key}", rekeyed(("transformations", index, "categories_to_values"), key, new)


def category_of_another_type(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "likelihood"):
        for key in rule["categories_to_values"]:
            new: Any = (
                str(key).lower() if not isinstance(key, str) else int(key) if key.isdigit() else key == "yes"
            )
            yield f"{index}.{key}", rekeyed(("transformations", index, "categories_to_values"), key, new)


def category_added(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "likelihood"):
        first = next(iter(rule["categories_to_values"]))
        extra = (
            "y" if isinstance(first, str) and not first.isdigit() else 77 if type(first) is int else "maybe"
        )
        yield (
            str(index),
            edit(
                ("transformations", index, "categories_to_values"),
                lambda mapping, extra=extra: {extra: 0.3, **mapping},
            ),
        )


def number_is_none(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "likelihood"):
        key = next(iter(rule["categories_to_values"]))
        for bad in ("1.0", None, True, float("nan")):
            yield (
                f"{index}.{bad}",
                edit(
                    ("transformations", index, "categories_to_values"),
                    lambda m, key=key, bad=bad: {**m, key: bad},
                ),
            )


def path_misspelt(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data):
        for place, part in enumerate(rule["input_path"]):
            if isinstance(part, str):
                yield f"{index}.{part}", edit(("transformations", index, "input_path", place), misspelt)


def path_cut(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data):
        if rule["input_path"]:
            yield f"{index}.end", edit(("transformations", index, "input_path"), lambda path: path[:-1])
            yield f"{index}.begin", edit(("transformations", index, "input_path"), lambda path: path[1:])


def path_too_long(data: Data) -> Iterator[Change]:
    for index, _ in rules_of(data):
        for part in ("value", 0, None):
            yield (
                f"{index}.{part}",
                edit(("transformations", index, "input_path"), lambda path, part=part: [*path, part]),
            )


def wildcard_is_an_index(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data):
        for place, part in enumerate(rule["input_path"]):
            if part is None:
                yield f"{index}", edit(("transformations", index, "input_path", place), lambda _: 0)
                yield f"{index}.star", edit(("transformations", index, "input_path", place), lambda _: "*")


def order_swapped(data: Data) -> Iterator[Change]:
    rules = rules_of(data)
    for (one, _), (other, _) in pairwise(rules):

        def swap(found: Data, one: int = one, other: int = other) -> None:
            steps = found["transformations"]
            steps[one], steps[other] = steps[other], steps[one]

        yield f"{one}.{other}", swap


def order_reversed(data: Data) -> Iterator[Change]:
    if len(rules_of(data)) > 1:
        yield "all", edit(("transformations",), lambda rules: rules[::-1])


def step_twice(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data):
        yield (
            f"{index}",
            edit(
                ("transformations",),
                lambda rules, i=index, r=rule: [*rules[: i + 1], copy.deepcopy(r), *rules[i + 1 :]],
            ),
        )


def boundary_dropped(data: Data) -> Iterator[Change]:
    for name in data.get("sentence_boundaries") or {}:
        yield name, without(("sentence_boundaries",), name)


def source_changed(data: Data) -> Iterator[Change]:
    for index, _ in rules_of(data, "decode_sentences"):
        for source in ("all_but_last_message", ["last_message", "documents"], "last_turns"):
            yield f"{index}.{source}", edit(("transformations", index, "source"), lambda _, s=source: s)


def output_misspelt(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "decode_sentences"):
        for role in rule["output_names"]:
            yield f"{index}.{role}", rekeyed(("transformations", index, "output_names"), role, misspelt(role))


def output_renamed_alone(data: Data) -> Iterator[Change]:
    """A decoded field gets another name, and the steps after it do not know."""
    for index, rule in rules_of(data, "decode_sentences"):
        for role, name in rule["output_names"].items():
            yield (
                f"{index}.{role}",
                edit(("transformations", index, "output_names", role), lambda _, name=name: name + "_"),
            )


def outputs_collide(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "decode_sentences"):
        names = list(rule["output_names"].values())
        yield (
            f"{index}",
            edit(
                ("transformations", index, "output_names"), lambda m, names=names: dict.fromkeys(m, names[0])
            ),
        )
        others = [
            part for _, other in rules_of(data, "decode_sentences") for part in other["input_path"][-1:]
        ]
        other = next((part for part in others if part != rule["input_path"][-1]), None)
        if other:
            yield (
                f"{index}.{other}",
                edit(("transformations", index, "output_names", "begin"), lambda _, other=other: other),
            )


def field_misspelt(data: Data) -> Iterator[Change]:
    """A field that a step names does not exist."""
    keys = {
        "explode": ("target_field",),
        "drop_duplicates": ("target_fields",),
        "merge_spans": ("group_fields", "begin_field", "end_field", "text_field"),
        "project": ("retained_fields",),
    }
    for index, rule in rules_of(data, *keys):
        for key in keys[rule["type"]]:
            here = ("transformations", index, key)
            match rule[key]:
                case str():
                    yield f"{index}.{key}", edit(here, misspelt)
                case list() as names:
                    yield f"{index}.{key}", edit(here, lambda ns: [misspelt(ns[0]), *ns[1:]])
                    yield f"{index}.{key}.last", edit(here, lambda ns: [*ns[:-1], misspelt(ns[-1])])
                    del names
                case dict() as names:
                    for name in list(names)[:2]:
                        yield f"{index}.{key}.{name}", rekeyed(here, name, misspelt(name))
                case _:
                    continue


def fields_collide(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "project"):
        names = rule["retained_fields"]
        if len(names) > 1:
            yield (
                f"{index}",
                edit(("transformations", index, "retained_fields"), lambda ns: dict.fromkeys(ns, "same")),
            )
        yield f"{index}.none", edit(("transformations", index, "retained_fields"), lambda ns: type(ns)())
    for index, _ in rules_of(data, "merge_spans"):
        yield (
            f"{index}",
            edit(("transformations", index), lambda rule: {**rule, "end_field": rule["begin_field"]}),
        )
        yield f"{index}.group", edit(("transformations", index, "group_fields"), lambda names: names[:-1])


def parameter_dropped(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data):
        for key in rule:
            if key not in ("type", "input_path", "text_field", "output_name"):
                yield f"{index}.{key}", without(("transformations", index), key)


def parameter_misspelt(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data):
        for key in rule:
            yield f"{index}.{key}", rekeyed(("transformations", index), key, misspelt(key))


def kind_misspelt(data: Data) -> Iterator[Change]:
    for index, _ in rules_of(data):
        yield str(index), edit(("transformations", index, "type"), misspelt)


def braces_single(data: Data) -> Iterator[Change]:
    if "{{" in (data.get("instruction") or ""):
        yield "all", edit(("instruction",), lambda text: text.replace("{{", "{").replace("}}", "}"))
        yield "open", edit(("instruction",), lambda text: text.replace("{{", "{", 1))


def brace_added(data: Data) -> Iterator[Change]:
    if data.get("instruction"):
        for brace in ("{", "}", "{}", "{0}", "{last_message.content}", "{last_message[0]}", "{unknown}"):
            yield brace, edit(("instruction",), lambda text, brace=brace: f"{text} {brace}")


def field_renamed(data: Data) -> Iterator[Change]:
    text = data.get("instruction") or ""
    for name in ("requirement", "criteria", "target_role", "document_content", "last_message"):
        if "{" + name + "}" in text:
            new = "{" + misspelt(name) + "}"
            yield (
                name,
                edit(("instruction",), lambda text, old=name, new=new: text.replace("{" + old + "}", new)),
            )


def invocation_changed(data: Data) -> Iterator[Change]:
    tag = "<|im_start|>check\n"
    if tag in (data.get("instruction") or ""):
        for name, new in (
            ("gone", ""), ("misspelt", "<|im_start|>chek\n"), ("no break", "<|im_start|>check "),
            ("capital", "<|im_start|>Check\n"), ("space", "<|im_start|> check\n"),
            ("no bracket", "im_start|>check\n"),
            ("twice", tag + tag), ("escaped", "<|im_start|>check\\n"),
        ):  # fmt: skip
            yield name, edit(("instruction",), lambda text, new=new: text.replace(tag, new))


def budget_too_small(data: Data) -> Iterator[Change]:
    for name in ("max_completion_tokens", "max_tokens"):
        if name in (data.get("parameters") or {}):
            for value in (1, 0, -5, "20", 1.5):
                yield f"{value}", edit(("parameters", name), lambda _, value=value: value)


def parameters_take_over(data: Data) -> Iterator[Change]:
    for name, value in (
        ("messages", [{"role": "user", "content": "Hello."}]),
        ("extra_body", {"documents": []}),
        ("extra_body", ["top_k"]),
    ):
        yield (
            f"{name}.{type(value).__name__}",
            edit(("parameters",), lambda old, name=name, value=value: {**(old or {}), name: value}),
        )


def other_schema_too(data: Data) -> Iterator[Change]:
    if data.get("response_format"):
        extra = {"guided_json": {"type": "array", "items": {"type": "null"}}}
        yield "guided_json", edit(("parameters",), lambda old: {**(old or {}), "extra_body": extra})


def top_misspelt(data: Data) -> Iterator[Change]:
    for key in data:

        def change(found: Data, key: str = key) -> None:
            items = [(misspelt(k) if k == key else k, v) for k, v in found.items()]
            found.clear()
            found.update(items)

        yield key, change


def top_of_another_type(data: Data) -> Iterator[Change]:
    for key, value in (
        ("transformations", {"type": "nest"}), ("parameters", ["temperature"]), ("instruction", ["text"]),
        ("response_format", ["string"]), ("sentence_boundaries", ["documents"]), ("docs_as_message", "text"),
        ("logprobs_workaround", "no"), ("sentence_boundaries", {"last": "r"}),
        ("response_format", "{'type': 1}"),
    ):  # fmt: skip
        yield f"{key}.{value!r:.20}", edit((key,), lambda _, value=value: value)


FAULTS: dict[str, Callable[[Data], Iterator[Change]]] = {
    function.__name__: function
    for function in (
        category_dropped, category_misspelt, category_of_another_type, category_added, number_is_none,
        path_misspelt,
        path_cut, path_too_long, wildcard_is_an_index, order_swapped, order_reversed, step_twice,
        schema_field_renamed, schema_field_optional, schema_value_misspelt, schema_value_added,
        schema_value_dropped,
        schema_of_another_type, schema_number, schema_without_enum, schema_is_none, reference_broken,
        boundary_dropped, source_changed, output_misspelt, output_renamed_alone, outputs_collide,
        field_misspelt,
        fields_collide, parameter_dropped, parameter_misspelt, kind_misspelt, braces_single, brace_added,
        field_renamed, invocation_changed, budget_too_small, parameters_take_over, other_schema_too,
        top_misspelt,
        top_of_another_type,
    )
}  # fmt: skip
