import pytest

from tests.hub import card

GOOD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
base_model_relation: adapter
library_name: peft
language: [en, zh-Hant]
tags: [alora]
model-index:
- name: org/name
  results:
  - task: {type: text-generation}
    dataset: {type: org/data, name: Data}
    metrics: [{type: accuracy, value: 0.5}]
---

# A model
"""


def test_a_good_card_has_no_problems() -> None:
    assert card.problems(GOOD) == ([], [])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("apache-2.0", "Apache 2.0", '"license" is'),
        ("apache-2.0", "other", '"license_name" is required'),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "/home/me/model", '"base_model" with value "/home/me/model"'),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "./model", '"base_model" with value "./model"'),
        ("relation: adapter", "relation: lora", '"base_model_relation" must be'),
        ("[en, zh-Hant]", "[english]", "\"language\" 'english'"),
        ("[alora]", "alora", '"tags" must be a list'),
        ("[alora]", "[1]", '"tags" must be a list of strings'),
        ("peft", "[peft]", '"library_name" must be a string'),
        ("- name: org/name\n  results", "- results", '"model-index[0].name" is required'),
        (", name: Data", "", '"model-index[0].results[0].dataset.name" is required'),
        ("{type: text-generation}", "generation", '"model-index[0].results[0].task" must be a mapping'),
        (", value: 0.5", "", '"model-index[0].results[0].metrics[0].value" is required'),
        ("[alora]", "[alora", "the metadata is not YAML"),
    ],
)
def test_what_the_hub_would_refuse_is_an_error(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    errors, _ = card.problems(GOOD.replace(old, new))
    assert [error for error in errors if error.startswith(expected)]


@pytest.mark.parametrize("content", ["# No front matter\n", "---\n---\n# Empty\n"])
def test_missing_metadata_is_a_warning(content: str) -> None:
    errors, warnings = card.problems(content)
    assert errors == []
    assert warnings == ["empty or missing yaml metadata in repo card"]


def test_tags_are_the_cards_own_and_those_that_follow_from_it() -> None:
    data = card.front_matter(GOOD)
    assert data is not None
    base = "HuggingFaceTB/SmolLM2-135M-Instruct"
    expected = ["alora", f"base_model:{base}", f"base_model:adapter:{base}", "license:apache-2.0", "peft"]
    assert card.tags(data) == expected
