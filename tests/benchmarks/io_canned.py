"""granite-common's own canned cases: requests, real replies and expected results, from its source release.

Of the contracts behind them only two are in the release; the others are on a model hub. They are read back
here: what goes into a prompt from the expected request, the steps to the result from STEPS, in our words.
"""

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.io_records import CITATIONS
from zoo.errors import ZooError
from zoo.io import process, rewrite
from zoo.specs.io_file import parse_io

RESPONSE = {
    "type": "decode_sentences",
    "input_path": [None, "r"],
    "source": "last_message",
    "output_names": {"begin": "response_begin", "end": "response_end", "text": "response_text"},
}


def weigh(path: list[Any], **numbers: float) -> dict[str, Any]:
    return {
        "type": "likelihood",
        "input_path": path,
        "categories_to_values": {name.replace("_", " "): number for name, number in numbers.items()},
    }


def keep(**names: str) -> dict[str, Any]:
    return {"type": "project", "input_path": [], "retained_fields": names}


def same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


ANSWERABILITY: list[dict[str, Any]] = [
    weigh([], answerable=1.0, unanswerable=0.0),
    {"type": "nest", "input_path": [], "field_name": "answerability_likelihood"},
]
HALLUCINATION: list[dict[str, Any]] = [
    weigh([None, "f"], faithful=1.0, partial=0.5, unfaithful=0.0),
    RESPONSE,
    keep(
        **same("response_begin", "response_end", "response_text"),
        f="faithfulness_likelihood",
        e="explanation",
    ),
]
STEPS: dict[str, list[dict[str, Any]]] = {
    "answerability": ANSWERABILITY,
    "hallucination_detection": HALLUCINATION,
    "citations": CITATIONS,
    "query_rewrite": [],
    "query_clarification": [],
    "answer_relevance_rewriter": [],
    "context_relevance": [
        weigh(["context_relevance"], relevant=1.0, irrelevant=0.0, partially_relevant=0.5),
    ],
    "uncertainty": [
        {
            "type": "likelihood",
            "input_path": [],
            "categories_to_values": {digit: 0.05 + digit / 10 for digit in range(10)},
        },
        {"type": "nest", "input_path": [], "field_name": "certainty"},
    ],
    "requirement_check": [
        {"type": "likelihood", "input_path": [], "categories_to_values": {True: 1.0, False: 0.0}},
        {"type": "nest", "input_path": [], "field_name": "requirement_likelihood"},
    ],
    "answer_relevance_classifier": [
        {
            "type": "likelihood",
            "input_path": ["answer_relevance_judgment"],
            "categories_to_values": {True: 1.0, False: 0.0},
        },
        keep(
            **same("answer_relevance_analysis", "answer_relevance_category"),
            answer_relevance_judgment="answer_relevance_likelihood",
        ),
    ],
}
# Their expected result takes no alternative of true and false into account: the deviation class `booleans`.
BOOLEAN = ("answer_relevance_classifier", "requirement_check")
# Inputs whose file is not called like the case.
INPUTS = {
    "answerability_simple": "simple",
    "answerability_answerable": "answerable",
    "answerability_unanswerable": "unanswerable",
    "answerability_extra_params": "extra_params",
    "gpt_oss_answerability": "answerable",
}


def canned_cases(sdist: Path, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Runs all of them: [requests, equal, results, equal], and what differs."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    data = next(folder.glob("granite_common-*/tests/granite_common/intrinsics/rag/testdata"))
    counts = {"requests": 0, "requests_equal": 0, "results": 0, "results_equal": 0, "results_booleans": 0}
    wrong = []
    for expected in sorted((data / "test_canned_input").glob("*.json")):
        name = expected.stem
        asked = load(data / "input_json" / f"{INPUTS.get(name, name.removeprefix('gpt_oss_'))}.json")
        arguments = load(data / "input_args" / f"{name}.json") or {}
        spec = contract(data, name, asked, load(expected), arguments)
        counts["requests"] += 1
        said = rewrite(spec, asked, **arguments)
        if said == load(expected):
            counts["requests_equal"] += 1
        else:
            wrong.append(f"request {name}: {json.dumps(said)[:700]}")
        reply = load(data / "test_canned_output" / "model_output" / f"{name}.json")
        result = load(data / "test_canned_output" / "expected_result" / f"{name}.json")
        for choice, wanted in zip(*([] if r is None else r["choices"] for r in (reply, result)), strict=True):
            counts["results"] += 1
            try:
                got = process(spec, choice, asked)
            except ZooError as error:
                got = f"{error} {error.__dict__}"
            if rounded(got) == rounded(json.loads(wanted["message"]["content"])):
                counts["results_equal"] += 1
            elif name in BOOLEAN:
                counts["results_booleans"] += 1
            else:
                wrong.append(f"result {name}: {json.dumps(got)[:700]}")
    return counts, wrong


def contract(data: Path, name: str, asked: Any, expected: Any, arguments: dict[str, Any]) -> Any:
    """The contract file where the release has it; else read back from the expected request."""
    for stem in (name, name.split("_")[0]):
        there = data / "input_yaml" / f"{stem}.yaml"
        if there.is_file() and name in ("instruction", "answerability_extra_params"):
            return parse_io(there.read_bytes(), name="io.yaml").spec
    body = expected.get("extra_body") or {}
    kept = {key: value for key, value in expected.items() if key not in ("messages", "extra_body")}
    kept = {
        key: value for key, value in kept.items() if not key.endswith("logprobs") and value != asked.get(key)
    }
    documents = bool((asked.get("extra_body") or {}).get("documents"))
    moved = documents and "documents" not in body
    told = len(expected["messages"]) - moved > len(asked["messages"])
    form = "json" if expected["messages"][0]["content"].startswith("[") else "string"
    task = next(task for task in STEPS if task in name)
    last = re.search(r"<(\w)0> ", expected["messages"][len(expected["messages"]) - 1 - told]["content"])
    listed = re.search(r"<(\w)0> ", json.dumps(body.get("documents") or expected["messages"][0]["content"]))
    boundaries = {"last_message": last[1]} if last else {}
    boundaries |= {"documents": listed[1]} if listed and documents else {}
    fields = {
        "model": None,
        "response_format": json.dumps(body["structured_outputs"]["json"]),
        "transformations": STEPS[task] or None,
        "parameters": kept,
        "sentence_boundaries": boundaries or None,
        "docs_as_message": form if moved else None,
        "logprobs_workaround": name.startswith("gpt_oss"),
        "instruction": template(expected["messages"][-1]["content"], arguments) if told else None,
    }
    return parse_io(yaml.safe_dump(fields, sort_keys=False).encode(), name="io.yaml").spec


def template(said: str, arguments: dict[str, Any]) -> str:
    """The instruction that becomes this text with these arguments."""
    said = said.replace("{", "{{").replace("}", "}}")
    for name, value in arguments.items():
        said = said.replace(value, "{" + name + "}")
    return said


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def rounded(value: Any) -> Any:
    """To two decimals, as granite-common's own test compares (test_rag_intrinsics_lib.py, _round_floats)."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 2) if isinstance(value, float) else value
