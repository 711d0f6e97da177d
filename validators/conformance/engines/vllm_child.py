"""The process that holds vLLM: one JSON object a line in, one out.

Run as a script by a Python that has vLLM, never imported by zoo.
"""

import json
import os
import shutil
import sys
from typing import Any


def main() -> None:
    """Starts the engine that `argv[1]` describes, then answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # vLLM and its workers print: nothing but answers may stand on the pipe
    spec: dict[str, Any] = json.loads(sys.argv[1])
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    try:
        ask = _start(spec)
        answers.write("{}\n")
        for line in sys.stdin:
            answers.write(json.dumps(ask(json.loads(line))) + "\n")
        shutil.rmtree(spec["scratch"], ignore_errors=True)  # whoever made it may be gone
    except Exception as error:  # told to the other side, which decides what it means
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"[:2000]}) + "\n")
    answers.flush()
    os._exit(0)  # its workers may outlive the interpreter's own end


def _start(spec: dict[str, Any]) -> Any:
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt
    from vllm.lora.request import LoRARequest

    engine = LLM(
        model=spec["model"],
        dtype=spec["dtype"],
        enable_lora=True,
        max_lora_rank=spec["rank"],
        max_model_len=spec["context"],
        max_logprobs=spec["probabilities"],
        enforce_eager=True,
        enable_prefix_caching=True,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=1, logprobs=spec["probabilities"])
    adapter = LoRARequest("adapter", 1, spec["adapter"])

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        if not request["warm"]:
            engine.reset_prefix_cache()
        [answer] = engine.generate(
            TokensPrompt(prompt_token_ids=request["ids"]),
            sampling,
            lora_request=adapter if request["adapter"] else None,
            use_tqdm=False,
        )
        first = answer.outputs[0].logprobs[0]
        return {
            "log_probs": [[number, one.logprob] for number, one in first.items()],
            "cached": answer.num_cached_tokens,
        }

    return ask


if __name__ == "__main__":
    main()
