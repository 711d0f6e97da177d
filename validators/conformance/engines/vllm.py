"""vLLM as an engine, in a process of its own: it pins its own torch and transformers."""

import json
import shutil
from collections.abc import Mapping
from typing import Any

from zoo.activation import Convention
from zoo.adapter import AdapterRepo
from zoo.errors import EngineError
from zoo.models import BaseModel, Dtype
from zoo.validators.conformance.engines.child import Child, new_scratch
from zoo.validators.conformance.engines.engine import Request
from zoo.validators.conformance.engines.refusal import EngineRefusesError

CONTEXT = 2048
PROBABILITIES = 100
START_SECONDS = 600.0
ANSWER_SECONDS = 300.0
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what its --max-lora-rank takes


class Vllm:
    """A running vLLM with one base model and one adapter."""

    exact = False

    def __init__(self, child: Child, convention: Convention) -> None:
        """Takes over a started child."""
        self._child = child
        self._convention = convention
        self.reused: int | None = None

    @classmethod
    def open(
        cls, base: BaseModel, repo: AdapterRepo, convention: Convention, *, python: str, dtype: Dtype
    ) -> "Vllm":
        """Starts vLLM, and asks the adapter once: only then does vLLM read it.

        Args:
            base: the base model.
            repo: the adapter.
            convention: what this version is known to do.
            python: an interpreter that has vLLM.
            dtype: of the base weights.

        Raises:
            EngineRefusesError: it refuses the adapter.
            EngineError: it does not start.
        """
        scratch = new_scratch()
        spec = {
            "model": str(base.folder),
            "adapter": str(repo.root),
            "dtype": dtype,
            "rank": next((rank for rank in _RANKS if rank >= repo.config.r), _RANKS[-1]),
            "context": CONTEXT,
            "probabilities": PROBABILITIES,
            "scratch": str(scratch),
        }
        try:
            child = Child("vllm", "vllm_child.py", [json.dumps(spec)], scratch=scratch, python=python)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        engine = cls(child, convention)
        try:
            if said := json.loads(child.line(timeout=START_SECONDS)).get("error"):
                raise EngineError(f"vllm does not start: {said[-300:]}")
            engine._probe(repo)
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def convention(self) -> Convention:
        """What this version is known to do with an aLoRA."""
        return self._convention

    def log_probs(self, request: Request) -> Mapping[int, float]:
        """The likeliest tokens' log-probabilities; see the protocol.

        Raises:
            EngineError: it died, or answered with an error.
        """
        warm = request.reuse
        if request.prefix:
            self._ask(request.ids[: request.prefix], adapter=False, warm=warm)
            warm = True
        answer = self._ask(request.ids, adapter=request.adapter, warm=warm)
        cached = answer.get("cached")
        self.reused = int(cached) if cached is not None else None
        return {int(number): float(value) for number, value in answer["log_probs"]}

    def close(self) -> None:
        """Stops it."""
        self._child.close()

    def _ask(self, ids: tuple[int, ...], *, adapter: bool, warm: bool) -> dict[str, Any]:
        self._child.say(json.dumps({"ids": list(ids), "adapter": adapter, "warm": warm}))
        answer: dict[str, Any] = json.loads(self._child.line(timeout=ANSWER_SECONDS))
        if said := answer.get("error"):
            raise EngineError(f"vllm answered: {said[-300:]}")
        return answer

    def _probe(self, repo: AdapterRepo) -> None:
        ids = tuple(repo.config.alora_invocation_tokens or (0,))
        self._ask(ids, adapter=False, warm=False)  # if this fails too, it is not about the adapter
        try:
            self._ask(ids, adapter=True, warm=False)
        except EngineError as error:
            # in process its core dies of the refusal; the reason stands in the log
            said = f"{error.message} {self._child.tail()}"
            reason = "does not support Activated LoRA" in said
            raise EngineRefusesError(
                "vLLM does not support Activated LoRA (aLoRA)" if reason else error.message
            ) from error
