"""io-6: the time to an intrinsic's answer when the base has read the conversation already.

A conversation of 1.5k tokens over real passages has been answered once. Then a new question is asked of a
trained intrinsic: through `Intrinsic`, which continues the base's cache, and through PEFT with the same
weights as a plain LoRA, whose keys and values of the conversation are others and are computed for it. Both
times are of the whole call: rendering, tokenising, reading, writing the answer to its end.

The intrinsic is trained here when there is none: `zoo train` on the demo's passages, the answers in the form
that its io.yaml says; about six minutes on two cores.

Run: python -m tests.benchmarks.second_question
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peft import PeftModel

from tests.benchmarks.evidence import ROOT, record
from tests.demo.relevance_data import INVOCATION, Sample, make, read_pairs
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Answer, Intrinsic
from zoo.models import load_model
from zoo.training.parts import DataSettings
from zoo.training.plan import TrainSettings
from zoo.training.train import train

WORK = ROOT / "build" / "io-6"
STEPS, RANK, TRAIN_SAMPLES, TEST_SAMPLES = 60, 8, 140, 100
TOKENS = 1500
MIN_RATIO = 5.0
IO_YAML = """\
name: context-relevance
model: null
response_format: >
  {"type": "object", "properties": {"relevance": {"type": "string", "enum": ["relevant", "irrelevant"]}},
   "required": ["relevance"], "additionalProperties": false}
transformations:
  - type: likelihood
    categories_to_values: {"relevant": 1.0, "irrelevant": 0.0}
    input_path: ["relevance"]
parameters:
  max_completion_tokens: 16
"""
Messages = list[dict[str, str]]


def trained(folder: Path) -> Path:
    """The intrinsic's folder; trained first when it is not there."""
    if not folder.is_dir():
        WORK.mkdir(parents=True, exist_ok=True)
        files = []
        for name, samples in zip(("train", "test"), make(), strict=True):
            wanted = samples[: TRAIN_SAMPLES if name == "train" else TEST_SAMPLES]
            files.append(WORK / f"{name}.jsonl")
            files[-1].write_text("".join(json.dumps(_as_json(one)) + "\n" for one in wanted))
        settings = TrainSettings.of(
            steps=STEPS,
            batch=16,
            learning_rate=1e-3,
            seed=0,
            rank=RANK,
            data=DataSettings(eval_data=files[1]),
        )
        train(files[0], folder, name="context-relevance", invocation_text=INVOCATION, settings=settings)
    (folder / "io.yaml").write_text(IO_YAML)
    return folder


def _as_json(sample: Sample) -> dict[str, Any]:
    answer = {"relevance": "relevant" if sample["answer"] == "yes" else "irrelevant"}
    return {**sample, "answer": json.dumps(answer)}


class Plain:
    """The same weights as a plain LoRA, through PEFT."""

    def __init__(self, intrinsic: Intrinsic) -> None:
        from transformers import AutoTokenizer

        base = intrinsic.shared.base
        folder = WORK / "plain-lora"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(intrinsic.repo.root, folder)
        config = json.loads((folder / "adapter_config.json").read_text())
        del config["alora_invocation_tokens"]
        (folder / "adapter_config.json").write_text(json.dumps(config))
        self.tokenizer = AutoTokenizer.from_pretrained(base.folder)
        self.model = PeftModel.from_pretrained(load_model(base), folder).eval()

    def answer(self, messages: Messages, tokens: int) -> str:
        """The whole prompt again, and so many tokens of the answer."""
        text = f"{self.tokenizer.apply_chat_template(messages, tokenize=False)}{INVOCATION}"
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            output = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
            )
        return str(self.tokenizer.decode(output[0, ids.shape[1] :]))


def conversation(intrinsic: Intrinsic) -> tuple[Messages, list[str]]:
    """A conversation of `TOKENS` tokens over passages, and questions that may follow it."""
    pairs = read_pairs(2000)
    messages: Messages = []
    while len(intrinsic.prompt({"messages": [*messages, _asked("?")]}, {})[1].prefix) < TOKENS:
        passage, question = pairs[len(messages) // 2]
        messages += [
            {"role": "user", "content": f"Passage: {passage}\n\nQuestion: {question}"},
            {"role": "assistant", "content": "The passage says something about that."},
        ]
    return messages, [question for _, question in pairs]


def _asked(question: str) -> dict[str, str]:
    return {"role": "user", "content": f"Question: {question}"}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = call()
    return time.perf_counter() - begin, found


def recomputed(intrinsic: Intrinsic, messages: Messages) -> Answer:
    """The same answer by a base that holds nothing."""
    empty = Intrinsic(intrinsic.repo, SharedBase(intrinsic.shared.base, intrinsic.shared.model))
    return empty.raw(messages)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure io-6.")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    repo = trained(WORK / "adapter")
    intrinsic = Intrinsic.load(repo)
    history, questions = conversation(intrinsic)
    plain = Plain(intrinsic)
    first = intrinsic.raw([*history, _asked(questions[0])])
    plain.answer([*history, _asked(questions[0])], 4)
    rows = []
    for number in range(1, options.repetitions + 1):
        messages = [*history, _asked(questions[number])]
        seconds, answer = timed(lambda: intrinsic.raw(messages))  # noqa: B023 - called at once
        lora_seconds, _ = timed(lambda: plain.answer(messages, len(answer.ids)))  # noqa: B023 - called at once
        again = recomputed(intrinsic, messages)
        rows.append((seconds, lora_seconds, answer, again))
        print(f"{seconds:.3f} s against {lora_seconds:.3f} s  {answer.text}  {answer.line()}", flush=True)
    ours, theirs = median(row[0] for row in rows), median(row[1] for row in rows)
    same = sum(answer.text == again.text for _, _, answer, again in rows)
    apart = max(abs(a.result["relevance"] - b.result["relevance"]) for _, _, a, b in rows)
    value = {
        "seconds": round(ours, 4),
        "plain_lora_seconds": round(theirs, 4),
        "times_less": round(theirs / ours, 1),
        "same_text": f"{same} of {len(rows)}",
        "largest_difference_of_the_result": float(f"{apart:.2g}"),
        "conversation_tokens": rows[0][2].prefix_tokens,
        "first_question_seconds": round(first.seconds, 3),
        "answers_by_text": {
            text: sum(row[2].text == text for row in rows) for text in {r[2].text for r in rows}
        },
        "threads": torch.get_num_threads(),
    }
    record(
        "io",
        "io-6",
        f"a new question to a trained SmolLM2 intrinsic on a conversation of {value['conversation_tokens']} "
        f"tokens that the base has read: whole call to the processed result, median of {len(rows)} questions",
        value,
        f">= {MIN_RATIO:g}x less time than plain LoRA; same text as recomputation",
        value["times_less"] >= MIN_RATIO and same == len(rows),
        "PEFT with the same weights as a plain LoRA over the full prompt, in turns in the same process; it "
        "decodes as many tokens, without a schema",
        "python -m tests.benchmarks.second_question",
    )


if __name__ == "__main__":
    main()
