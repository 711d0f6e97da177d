import time

import pytest
from peft.utils.other import get_pattern_key

from zoo.converters.patterns import resolve_patterns
from zoo.errors import RefusedError

PATHS = [
    f"model.layers.{layer}.{block}.{name}"
    for layer in (0, 1, 10, 11)
    for block, names in {"self_attn": ("q_proj", "k_proj"), "mlp": ("up_proj",)}.items()
    for name in names
]


@pytest.mark.parametrize(
    "patterns",
    [
        {"q_proj": 2},
        {"q_proj": 2, "model.layers.1.self_attn.q_proj": 3},
        {"model.layers.1.self_attn.q_proj": 3, "q_proj": 2},
        {"layers.1.self_attn.q_proj": 3},
        {r"model\.layers\.[0-9]+\.self_attn\.q_proj": 4},
        {"proj": 5},  # not a whole name: fits nothing
        {"self_attn.(q|k)_proj": 6},
        {"^model.layers.0.mlp.up_proj": 7},
        {r"layers\.1\d\..*": 8},
        {"q_proj|up_proj": 9},
    ],
)
def test_patterns_match_as_peft_matches_them(patterns: dict[str, int]) -> None:
    wanted = {path: patterns.get(get_pattern_key(list(patterns), path), 0) for path in PATHS}
    assert resolve_patterns(patterns, PATHS, 0) == wanted


def test_the_patterns_above_do_tell_modules_apart() -> None:
    assert set(resolve_patterns({"layers.1.self_attn.q_proj": 3}, PATHS, 0).values()) == {0, 3}


@pytest.mark.parametrize("pattern", ["(.*)*Z(.*)*Y(.*)*X", r"(\w|.)" * 60 + "!", "(.+)+(.+)+(.+)+!"])
def test_a_catastrophic_pattern_is_refused_in_bounded_time(pattern: str) -> None:
    begin = time.process_time()
    with pytest.raises(RefusedError) as refused:
        resolve_patterns({pattern: 1}, ["model.layers.0.self_attn.q_proj" * 3], 0)
    assert refused.value.code == "ZV020"
    assert time.process_time() - begin < 5  # of this process; the limit applies to another


@pytest.mark.parametrize("pattern", ["(", "[a", "*"])
def test_what_is_not_a_regular_expression_is_refused(pattern: str) -> None:
    with pytest.raises(RefusedError, match="not a regular expression"):
        resolve_patterns({pattern: 1}, PATHS, 0)
