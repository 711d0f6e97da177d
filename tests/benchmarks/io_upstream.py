"""Runs granite-common's and mellea's executors on cases from stdin; needs no zoo.

Started by io_agreement.py and io_throughput.py with the Python of an environment that has both packages. Each
line in is a case; each line out has, by package, what rewriting and processing gave or the error's class.
"""

import importlib
import json
import sys
from typing import Any

import yaml

PACKAGES = {"granite-common": "granite_common", "mellea": "mellea.formatters.granite"}


class Executor:
    """One package's two halves."""

    def __init__(self, package: str) -> None:
        root = PACKAGES[package]
        types = importlib.import_module(f"{root}.base.types")
        self.request_type = types.ChatCompletion
        self.reply_type = types.ChatCompletionResponse
        halves = importlib.import_module(f"{root}.intrinsics")
        self.rewriter = halves.IntrinsicsRewriter
        self.processor = halves.IntrinsicsResultProcessor

    def rewritten(self, case: dict[str, Any]) -> Any:
        request = self.request_type.model_validate(case["request"])
        return self.rewriter(config_dict=yaml.safe_load(case["yaml"])).transform(request, **case["arguments"])

    def result(self, case: dict[str, Any], rewritten: Any) -> Any:
        choice = {"index": 0, "message": {"role": "assistant", **case["reply"]["message"]}}
        if "logprobs" in case["reply"]:
            choice["logprobs"] = case["reply"]["logprobs"]
        reply = self.reply_type.model_validate({"choices": [choice]})
        done = self.processor(config_dict=yaml.safe_load(case["yaml"])).transform(reply, rewritten)
        return json.loads(done.choices[0].message.content)

    def both(self, case: dict[str, Any]) -> dict[str, Any]:
        said: dict[str, Any] = {}
        try:
            rewritten = self.rewritten(case)
            said["rewritten"] = rewritten.model_dump()
            if "reply" in case:
                said["result"] = self.result(case, rewritten)
        except Exception as error:  # every class of it is an answer here
            said["error"] = type(error).__name__
        return said


def main() -> None:
    import logging

    logging.disable(logging.CRITICAL)
    executors = {name: Executor(name) for name in PACKAGES}
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps({name: executor.both(case) for name, executor in executors.items()}))


if __name__ == "__main__":
    main()
