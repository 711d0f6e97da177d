"""Faults and choices that authors make, seeded into the text or the data of an `io.yaml`."""

# mypy: disable-error-code="misc"
# a default binds the loop's value to a lambda, whose type mypy then does not infer

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from tests.specs.fault_places import Change, Data, edit, misspelt, rules_of, without
from tests.specs.faults import FAULTS
from tests.specs.intrinsics import Intrinsic

# fault: nobody means this; choice: somebody may mean it, and it is a contract of its own then
Sort = Literal["fault", "choice"]
PER_OPERATOR = 3  # of the places in one file that one operator is tried on


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One changed file."""

    of: Intrinsic
    operator: str
    where: str
    sort: Sort
    text: str

    @property
    def id(self) -> str:
        return f"{self.of.name}/{self.operator}/{self.where}"


def data_of(text: str) -> Data:
    data: Data = yaml.safe_load(text)
    if isinstance(data.get("response_format"), str):
        data["response_format"] = json.loads(data["response_format"])
    return data


def dumped(data: Data) -> str:
    return yaml.dump(data, Dumper=_NoAliases, sort_keys=False, allow_unicode=True)


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def mutants(intrinsic: Intrinsic) -> list[Mutant]:
    """All mutants of one contract, each different from it and from the others."""
    original = data_of(intrinsic.text)
    found: dict[str, Mutant] = {}
    sorts: tuple[tuple[Sort, Any], ...] = (("fault", FAULTS), ("choice", CHOICES))
    for sort, operators in sorts:
        for name, operator in operators.items():
            for where, change in _spread(list(operator(original))):
                data = copy.deepcopy(original)
                change(data)
                text = dumped(data)
                if text != dumped(original):
                    mutant = Mutant(of=intrinsic, operator=name, where=where, sort=sort, text=text)
                    found.setdefault(text, mutant)
    for name, change_text in TEXT_FAULTS.items():
        text = change_text(intrinsic.text)
        if text != intrinsic.text:
            found.setdefault(text, Mutant(of=intrinsic, operator=name, where="text", sort="fault", text=text))
    return list(found.values())


def _spread(changes: list[Change]) -> list[Change]:
    """The first, the last and those between at equal distances."""
    if len(changes) <= PER_OPERATOR:
        return changes
    step = (len(changes) - 1) / (PER_OPERATOR - 1)
    return [changes[round(index * step)] for index in range(PER_OPERATOR)]


# ---------------------------------------------------------------- choices


def step_dropped(data: Data) -> Iterator[Change]:
    for index, _ in rules_of(data):
        yield str(index), edit(("transformations",), lambda rules, i=index: [*rules[:i], *rules[i + 1 :]])


def number_changed(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "likelihood"):
        for key in rule["categories_to_values"]:
            yield (
                f"{index}.{key}",
                edit(
                    ("transformations", index, "categories_to_values"),
                    lambda m, key=key: {**m, key: m[key] + 0.01},
                ),
            )


def result_renamed(data: Data) -> Iterator[Change]:
    for index, _ in rules_of(data, "nest"):
        yield str(index), edit(("transformations", index, "field_name"), misspelt)
    for index, rule in rules_of(data, "project"):
        if isinstance(rule["retained_fields"], dict):
            key = next(iter(rule["retained_fields"]))
            yield str(index), edit(("transformations", index, "retained_fields", key), misspelt)


def result_without_field(data: Data) -> Iterator[Change]:
    for index, rule in rules_of(data, "project"):
        names = rule["retained_fields"]
        if len(names) > 1:
            last = list(names)[-1]
            yield (
                str(index),
                edit(
                    ("transformations", index, "retained_fields"),
                    lambda ns, last=last: (
                        [n for n in ns if n != last]
                        if isinstance(ns, list)
                        else {k: v for k, v in ns.items() if k != last}
                    ),
                ),
            )


def fewer_keys(data: Data) -> Iterator[Change]:
    for index, _ in rules_of(data, "drop_duplicates"):
        yield str(index), edit(("transformations", index, "target_fields"), lambda names: names[:1])


def text_not_joined(data: Data) -> Iterator[Change]:
    for index, _ in rules_of(data, "merge_spans"):
        yield str(index), without(("transformations", index), "text_field")


def words_changed(data: Data) -> Iterator[Change]:
    if data.get("instruction"):
        yield "end", edit(("instruction",), lambda text: text + " Be brief.")


def prefix_changed(data: Data) -> Iterator[Change]:
    for name in data.get("sentence_boundaries") or {}:
        yield name, edit(("sentence_boundaries", name), lambda tag: tag + "s")


def parameter_changed(data: Data) -> Iterator[Change]:
    yield "temperature", edit(("parameters",), lambda old: {**(old or {}), "temperature": 0.7})


def documents_elsewhere(data: Data) -> Iterator[Change]:
    yield "string", edit(("docs_as_message",), lambda _: "string")


CHOICES: dict[str, Callable[[Data], Iterator[Change]]] = {
    function.__name__: function
    for function in (
        step_dropped, number_changed, result_renamed, result_without_field, fewer_keys, text_not_joined,
        words_changed, prefix_changed, parameter_changed, documents_elsewhere,
    )
}  # fmt: skip


# ---------------------------------------------------------------- faults of the text itself

TEXT_FAULTS: dict[str, Callable[[str], str]] = {
    "unquoted yes and no": lambda text: text.replace('"yes": 1.0', "yes: 1.0").replace(
        '"no": 0.0', "no: 0.0"
    ),
    "key twice": lambda text: text.replace("    input_path", "    input_path: []\n    input_path", 1),
    "top key twice": lambda text: text + "transformations: ~\n",
    "category twice": lambda text: text.replace('      "faithful": 1.0\n', '      "faithful": 1.0\n' * 2, 1),
    "alias": lambda text: text.replace("model: ~", "model: &a ~\nname: *a", 1),
    "tab": lambda text: text.replace("\n  ", "\n\t", 1),
    "cut off": lambda text: text[: text.index("transformations") + 16] + "  - type: [",
    "second document": lambda text: text + "---\nmodel: x\n",
    "JSON with a comma too many": lambda text: text.replace('"]', '",]', 1),
    "JSON key twice": lambda text: text.replace('"type": "string"', '"type": "string", "type": "string"', 1),
    "python tag": lambda text: text.replace("model: ~", "model: !!python/name:os.system", 1),
}
