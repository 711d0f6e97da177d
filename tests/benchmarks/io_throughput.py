"""io-4: requests rewritten and replies processed a second, against mellea 0.8.0 in the same process.

Both run in an environment that has mellea, with this project's tree on the path. Both get parsed JSON; both
have read their contracts before. mellea's answer is left as its own objects.
"""

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 1_000
ROUNDS = 5
SEED = 20261123
LIBRARIES = ("splitter", "schema validator", "JSON library")
LEAST_SHARE = 0.5  # of the profile's own time that the libraries must come to, for the rest to be theirs
PROSE = (
    "The council bought the old brewery in spring and let it stand empty for two years.",
    "Nobody had asked the neighbours, who found out from the newspaper.",
    "A first plan turned the cellar into a swimming pool, which the insurers refused to cover.",
    "The second plan was cheaper and, as it turned out, better liked.",
    "Would a library draw more visitors than a market hall?",
    "Visitors to the annual fair rose from 4,100 to 5,350 within a decade.",
    "Dr. Lindqvist, who led the survey, called the figures encouraging.",
    "Her team counted bicycles, prams and delivery vans at three crossings.",
    "On wet days the count fell by a third, on market days it doubled.",
    "The report was published in March and has been quoted ever since.",
    "Critics pointed out that the counting had stopped at 6 p.m. on every day.",
    "They wanted the evening traffic included before any money was spent.",
    "In the end the hall was built, and the pool was never mentioned again!",
)


def cases() -> list[dict[str, Any]]:
    """Citations over documents, a weighed yes or no, a question rewritten; every text another one."""
    import random

    from tests.benchmarks.io_cases import answer, entry, request, spec
    from tests.benchmarks.io_kinds import pipeline
    from tests.benchmarks.io_traps import YES_NO, quoted, record_tokens, scored

    check = {"type": "object", "properties": {"score": {"enum": ["yes", "no"]}}, "required": ["score"]}
    asks = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
    rewriting = spec(instruction="Rewrite: {last_message}", schema=asks, parameters={"temperature": 0.0})
    rng = random.Random(SEED)

    def prose(number: int, most: int) -> str:
        sentences = rng.choices(PROSE, k=rng.randint(most // 2, most))
        return " ".join(sentence.replace(" the ", f" the {number}th ", 1) for sentence in sentences)

    made = []
    for number in range(REQUESTS):
        if number % 3 == 0:
            case = pipeline(rng)
        elif number % 3 == 1:
            tokens = record_tokens(rng, quoted(entry("yes", rng.uniform(0.4, 0.8), {"no": 0.1})))
            case = scored("yes", YES_NO, tokens, schema=check, arguments={"criteria": prose(number, 2)})
            case["spec"]["instruction"] = "<check>{criteria}"
            case["request"] = request(rng, turns=3)
        else:
            case = {"spec": rewriting, "request": request(rng, turns=5), "arguments": {}}
            case["reply"] = answer({"question": prose(number, 2)})
        for message in case["request"]["messages"]:
            message["content"] = prose(number, 4)
        for document in (case["request"].get("extra_body") or {}).get("documents", ()):
            document["text"] = prose(number, 14)
        made.append(case)
    return made


def child() -> None:
    """Measures; prints one JSON object."""
    sys.path.insert(0, str(ROOT))
    import logging

    import yaml
    from mellea.formatters.granite.base.types import ChatCompletion, ChatCompletionResponse
    from mellea.formatters.granite.intrinsics import IntrinsicsResultProcessor, IntrinsicsRewriter

    from zoo.io import process, rewrite
    from zoo.specs.io_file import parse_io

    logging.disable(logging.CRITICAL)
    work = cases()
    specs: dict[str, Any] = {}
    for case in work:
        key = case["yaml"] = yaml.safe_dump(case["spec"], sort_keys=False)
        if key not in specs:
            fields = yaml.safe_load(key)
            halves = IntrinsicsRewriter(config_dict=fields), IntrinsicsResultProcessor(config_dict=fields)
            specs[key] = parse_io(key.encode(), name="io.yaml").spec, halves

    def ours() -> list[Any]:
        results = []
        for case in work:
            spec = specs[case["yaml"]][0]
            rewrite(spec, case["request"], **case["arguments"])
            if "reply" in case:
                results.append(process(spec, case["reply"], case["request"]))
        return results

    def theirs() -> list[Any]:
        results = []
        for case in work:
            rewriter, processor = specs[case["yaml"]][1]
            said = rewriter.transform(ChatCompletion.model_validate(case["request"]), **case["arguments"])
            if "reply" in case:
                message = {"role": "assistant", **case["reply"]["message"]}
                choice = {"index": 0, **case["reply"], "message": message}
                reply = ChatCompletionResponse.model_validate({"choices": [choice]})
                results.append(json.loads(processor.transform(reply, said).choices[0].message.content))
        return results

    from tests.benchmarks.io_same import same

    equal = all(map(same, ours(), theirs()))
    best = {"ours": float("inf"), "mellea": float("inf")}
    for _ in range(ROUNDS):
        for name, run in (("ours", ours), ("mellea", theirs)):
            began = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - began)
    measured = {
        "results_equal": equal,
        "requests": len(work),
        "contracts": len(specs),
        "seconds": {name: round(seconds, 4) for name, seconds in best.items()},
        "ratio": round(best["mellea"] / best["ours"], 2),
        "seconds_alone": alone(work, specs),
        "profile_shares": shares(ours),
        "own_share": functions(ours),
    }
    print(json.dumps(measured))


def alone(work: list[dict[str, Any]], specs: dict[str, Any]) -> dict[str, float]:
    """Seconds of what is not this project's: nltk's splitter, the schema validator, Python's JSON parser."""
    from zoo.io.reply_text import parsed
    from zoo.io.request import documents_of, read_request
    from zoo.io.schema import check_reply
    from zoo.io.sentences import _spans

    texts, replies = [], []
    for case in work:
        spec = specs[case["yaml"]][0]
        request = read_request(case["request"])
        if "documents" in spec.sentence_boundaries:
            texts += [document["text"] for document in documents_of(request)]
        if "last_message" in spec.sentence_boundaries:
            texts.append(request["messages"][-1]["content"])
        replies.append((spec.response_format, case["reply"]["message"]["content"]))
    values = [(schema, parsed(reply)) for schema, reply in replies]

    def checked() -> None:
        for schema, value in values:
            check_reply(value, schema)

    return {
        "splitter": best_of(lambda: [_spans(text) for text in texts]),
        "schema validator": best_of(checked),
        "JSON parser": best_of(lambda: [parsed(reply) for _, reply in replies]),
    }


def best_of(run: Callable[[], Any]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        run()
        best = min(best, time.process_time() - began)
    return round(best, 4)


def shares(run: Callable[[], Any]) -> dict[str, float]:
    """Shares of the run's own time by whose code it is, by cProfile; a built-in's is its callers'."""
    profile = cProfile.Profile()
    profile.runcall(run)
    stats: Any = pstats.Stats(profile)
    spent = dict.fromkeys((*LIBRARIES, "everything else"), 0.0)
    for key, (_, _, own, _, callers) in stats.stats.items():
        if key[0] == __file__:  # the loop over the requests
            continue
        if key[0] == "~" and callers and "jsonschema_rs" not in key[2]:
            for caller, row in callers.items():
                if caller[0] != __file__:
                    spent[owner(caller)] += row[2]
        else:
            spent[owner(key)] += own
    return {name: round(seconds / sum(spent.values()), 3) for name, seconds in spent.items()}


def owner(function: tuple[str, int, str]) -> str:
    """Whose time a function's is; the splitter's is nltk's and that of the method put in place of nltk's."""
    file, _, name = function
    parts = Path(file).parts
    if "nltk" in parts or "regex" in parts or name == "text_contains_sentbreak":
        return "splitter"
    if "jsonschema_rs" in parts or "jsonschema_rs" in name:
        return "schema validator"
    return "JSON library" if parts[-2:-1] == ("json",) else "everything else"


def functions(run: Callable[[], Any]) -> dict[str, float]:
    """The ten functions with the largest own share of the run's time, by cProfile."""
    profile = cProfile.Profile()
    profile.runcall(run)
    stats: Any = pstats.Stats(profile)
    own = sorted(((row[2], key) for key, row in stats.stats.items()), reverse=True)[:10]
    return {f"{Path(file).name}:{name}": round(spent / stats.total_tt, 3) for spent, (file, _, name) in own}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--upstream-python", type=Path)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    if options.child:
        return child()
    from tests.benchmarks.io_agreement import upstream_python

    with tempfile.TemporaryDirectory() as folder:
        python = options.upstream_python or upstream_python(Path(folder))
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "jsonschema-rs", "pydantic", "PyYAML"], check=True
        )
        done = subprocess.run([python, __file__, "--child"], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    value = json.loads(done.stdout)
    if options.no_record:
        print(json.dumps(value, indent=1))
        return
    from tests.benchmarks.evidence import record

    libraries = sum(value["profile_shares"][name] for name in LIBRARIES)
    remains = libraries >= LEAST_SHARE
    rest = (
        ""
        if remains
        else f"The second half is missed: the libraries come to {libraries:.0%} of the profile. "
    )

    record(
        "io",
        "io-4",
        "processor seconds for 1,000 requests rewritten and replies processed, best of 5 rounds in turn; "
        "seconds of the splitter, the validator and the JSON parser alone on the same texts",
        value,
        "at least twice mellea's throughput, and what remains is the libraries' own time: of the profile's "
        f"time at least {LEAST_SHARE:.0%} is the splitter's, the schema validator's and the JSON library's",
        value["ratio"] >= 2 and value["results_equal"] and remains,
        "mellea 0.8.0, in the same process on the same requests",
        "python -m tests.benchmarks.io_throughput",
        note=f"{rest}Ours also checks every reply against its schema; a text split to be rewritten is "
        "not split again to be decoded; no text occurs in two requests. Plain word boundaries are decided "
        "without nltk's rules, with nltk's answer (tests/io/test_rewriting.py compares).",
    )


if __name__ == "__main__":
    main()
