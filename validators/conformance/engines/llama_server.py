"""llama.cpp's own HTTP server as an engine, started by us and asked over HTTP.

Every request says the adapter's scale, for the base too: a request without the `lora` field runs the
server's defaults, and after an adapter's request it is answered from the adapter's cache.
"""

import http.client
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.activation import Convention
from zoo.adapter import AdapterRepo
from zoo.converters.exporters.base_gguf import base_gguf
from zoo.converters.exporters.gguf_adapter import export_gguf
from zoo.errors import EngineError, MissingExtraError, NotFoundError, UsageError
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.validators.conformance.engines.child import Child, new_scratch
from zoo.validators.conformance.engines.engine import Request

INSTALL = "pip install 'alora-zoo[llama]'"
CONTEXT = 4096
PROBABILITIES = 1000  # likeliest tokens asked for: the whole of a large vocabulary takes a second to write
START_SECONDS = 300.0
ANSWER_SECONDS = 300.0


def binary() -> str:
    """The llama-server to run: `$ZOO_LLAMA_SERVER`, else the one on PATH; empty when there is none."""
    return os.environ.get("ZOO_LLAMA_SERVER") or shutil.which("llama-server") or ""


class LlamaServer:
    """A running llama-server with one base model and one adapter."""

    def __init__(self, child: Child, port: int, convention: Convention, *, exact: bool, sampled: int) -> None:
        """Takes over a started child.

        Args:
            child: holds the server.
            port: where it listens on 127.0.0.1.
            convention: what this version is known to do.
            exact: whether its weights and KV are float32 copies of ours.
            sampled: the token that it is made to sample: the server leaves probabilities out of an answer
                that ends inside a character, which one byte of a byte-level vocabulary does.
        """
        self._child = child
        self._port = port
        self._convention = convention
        self.exact = exact
        self._sampled = sampled
        self.reused: int | None = None

    @classmethod
    def open(
        cls, base: BaseModel, repo: AdapterRepo, convention: Convention, options: Mapping[str, str]
    ) -> "LlamaServer":
        """Writes both GGUF files and starts the server on them.

        Args:
            base: the base model.
            repo: an adapter in normal form.
            convention: what this version is known to do.
            options: `gguf`, the user's own file of the base; `gguf-type`: f32 (default), f16 or shipped;
                `context`: tokens of the context.

        Raises:
            EngineError: it does not start, or the base cannot be written as GGUF.
            MissingExtraError: there is no server, or no `gguf` package.
            RefusedError: ZX001 or ZX003, the adapter cannot be written as GGUF.
            NotFoundError: the named GGUF file does not exist.
        """
        program = binary()
        if not program and find_spec("xllamacpp") is None:
            raise MissingExtraError("llama-server is not installed", hint=INSTALL)
        model, exact = _model_file(base, options)
        scratch = new_scratch()
        try:
            adapter = export_gguf(repo, base, scratch / "adapter.gguf")
            port = _free_port()
            spec = {
                "binary": program,
                "model": str(model),
                "adapter": str(adapter),
                "port": port,
                "scratch": str(scratch),
                "context": int(options.get("context", CONTEXT)),
                "threads": int(os.environ.get("OMP_NUM_THREADS") or min(os.cpu_count() or 1, 8)),
            }
            child = Child("llama-server", "llama_child.py", [json.dumps(spec)], scratch=scratch)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        engine = cls(child, port, convention, exact=exact, sampled=Prompter(base).encode("a")[-1])
        try:
            engine._wait()
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def convention(self) -> Convention:
        """What this version is known to do with an aLoRA."""
        return self._convention

    def log_probs(self, request: Request) -> Mapping[int, float]:
        """The likeliest tokens' log-probabilities before any sampling; see the protocol.

        Raises:
            EngineError: the server died, or answered something else.
        """
        warm = request.reuse
        if request.prefix:
            self._complete(request.ids[: request.prefix], adapter=False, warm=warm, predict=0)
            warm = True
        answer = self._complete(request.ids, adapter=request.adapter, warm=warm, predict=1)
        try:
            self.reused = int(answer["timings"]["cache_n"])
            [first] = answer["completion_probabilities"]
            found = {int(one["id"]): float(one["logprob"]) for one in first["top_logprobs"]}
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"llama-server's answer lacks what was asked for: {error!r}") from error
        return found

    def close(self) -> None:
        """Stops the server."""
        self._child.close()

    def _complete(self, ids: tuple[int, ...], *, adapter: bool, warm: bool, predict: int) -> dict[str, Any]:
        return self._ask(
            "POST",
            "/completion",
            {
                "prompt": list(ids),
                "n_predict": predict,
                "temperature": 0.0,
                "n_probs": PROBABILITIES if predict else 0,
                "post_sampling_probs": False,  # of the raw logits, before the bias below
                "logit_bias": [[self._sampled, 1e4]],
                "cache_prompt": warm,
                "id_slot": 0,
                "lora": [{"id": 0, "scale": 1.0 if adapter else 0.0}],
            },
        )

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        # http.client, not urllib: a proxy from the environment must not see 127.0.0.1
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)
        try:
            content = json.dumps(body) if body is not None else None
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            if not self._child.alive:
                raise self._child.death() from error
            raise EngineError(f"llama-server does not answer: {error}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            said = " ".join(text.decode(errors="replace").split())[:300]
            raise EngineError(f"llama-server answered {response.status}: {said}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _wait(self) -> None:
        """Until it says that it is healthy.

        Raises:
            EngineError: it died, or took too long.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self._child.alive:
                raise self._child.death()
            try:
                self._ask("GET", "/health")
            except EngineError:  # not listening yet, or still loading
                time.sleep(0.1)
            else:
                return
        raise EngineError(f"llama-server was not ready within {START_SECONDS:g} s: {self._child.tail()}")


def _model_file(base: BaseModel, options: Mapping[str, str]) -> tuple[Path, bool]:
    """The base's GGUF file, and whether it holds float32 copies of our weights."""
    if own := options.get("gguf"):
        path = Path(own).expanduser()
        if not path.is_file():
            raise NotFoundError(f"no GGUF file {own}", hint="--gguf takes the base model's file")
        return path, False
    match options.get("gguf-type", "f32"):
        case "f32":
            return base_gguf(base, kind="f32"), True
        case "f16":
            return base_gguf(base, kind="f16"), False
        case "shipped":
            return base_gguf(base, kind="shipped"), False
        case other:
            raise UsageError(f"no GGUF type {other!r}", hint="f32, f16 or shipped")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
