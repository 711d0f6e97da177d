"""Which upstream program would load a file; the rules were run against both programs on 980 files."""

import pytest
import yaml

from tests.specs.intrinsics import INTRINSICS
from zoo.specs.io_upstream import UPSTREAMS, refusal

GRANITE, MELLEA = UPSTREAMS
NULLS = {"model": None, "response_format": None, "transformations": None}
DECODE = {
    "type": "decode_sentences",
    "input_path": ["r"],
    "source": "documents",
    "output_names": {"begin": "b"},
}

CASES = [
    (NULLS, "", ""),
    ({"name": "x", **NULLS}, "name", ""),
    ({"model": None}, "response_format", "response_format"),
    ({**NULLS, "format": 1}, "format", "format"),
    ({**NULLS, "response_format": "{"}, "not JSON", "not JSON"),
    ({**NULLS, "response_format": {"type": "x"}}, "", ""),
    ({**NULLS, "parameters": []}, "not a mapping", "not a mapping"),
    ({**NULLS, "sentence_boundaries": False}, "", ""),
    ({**NULLS, "sentence_boundaries": {"all_but_last_message": "c"}}, "number", ""),
    ({**NULLS, "docs_as_message": "text"}, "docs_as_message", "docs_as_message"),
    ({**NULLS, "transformations": [{"type": "nest", "field_name": "x"}]}, "input_path", "input_path"),
    ({**NULLS, "transformations": [{"type": "x"}]}, "type", "type"),
    ({**NULLS, "transformations": [DECODE]}, "", ""),
    ({**NULLS, "transformations": [{**DECODE, "source": ["documents"]}]}, "decode", ""),
    ({**NULLS, "transformations": [DECODE], "docs_as_message": "string"}, "decode", "decode"),
    ({**NULLS, "transformations": [{**DECODE, "output_names": {"message_index": "m"}}]}, "output", "output"),
    ({**NULLS, "transformations": [{"type": "explode", "input_path": []}]}, "target_field", "target_field"),
]


@pytest.mark.parametrize(("raw", "granite", "mellea"), CASES)
def test_a_file_is_loaded_or_refused_for_a_reason(raw: dict[str, object], granite: str, mellea: str) -> None:
    for upstream, word in ((GRANITE, granite), (MELLEA, mellea)):
        reason = refusal(raw, upstream)
        assert bool(reason) is bool(word)
        assert word in reason


def test_the_known_intrinsics_of_today_load_in_mellea() -> None:
    refused = {one.name for one in INTRINSICS if refusal(yaml.safe_load(one.text), MELLEA)}
    assert refused == {"certainty_digits"}
