"""The process that holds llama-server: a binary, or the real server inside the `xllamacpp` package.

Run as a script, never imported by zoo. It ends when its standard input does, and takes the server with it.
"""

import json
import os
import shutil
import subprocess
import sys
from typing import Any


def main() -> None:
    """Runs the server that `argv[1]` describes."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    if spec["binary"]:
        _run_binary(spec)
    else:
        _run_package(spec)


def _run_binary(spec: dict[str, Any]) -> None:
    import threading

    command = [
        *(spec["binary"], "--model", spec["model"], "--lora", spec["adapter"]),
        *("--host", "127.0.0.1", "--port", str(spec["port"]), "--ctx-size", str(spec["context"])),
        *("--parallel", "1", "--threads", str(spec["threads"]), "--n-gpu-layers", "0", "--no-warmup"),
        *("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off", "--cache-ram", "0"),
    ]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        shutil.rmtree(spec["scratch"], ignore_errors=True)  # whoever made it may be gone
        server.kill()

    threading.Thread(target=stop_with_parent, daemon=True).start()
    status = server.wait()
    sys.stderr.flush()
    os._exit(status if status >= 0 else 128 - status)  # the thread above still waits for standard input


def _run_package(spec: dict[str, Any]) -> None:
    import xllamacpp

    wanted = xllamacpp.CommonParams()
    wanted.model.path = spec["model"]
    wanted.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(spec["adapter"], 1.0)]
    wanted.hostnames, wanted.port = ["127.0.0.1"], spec["port"]
    wanted.n_parallel, wanted.n_ctx = 1, spec["context"]
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = spec["threads"]
    wanted.cache_type_k = wanted.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    wanted.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    wanted.n_gpu_layers = 0
    wanted.cache_ram_mib = 0
    wanted.warmup = False
    try:
        server = xllamacpp.Server(wanted)
    except RuntimeError as error:  # llama.cpp's own reason stands above this in the log
        sys.exit(str(error))
    sys.stdin.buffer.read()
    shutil.rmtree(spec["scratch"], ignore_errors=True)  # whoever made it may be gone
    del server
    os._exit(0)  # its threads may outlive the object


if __name__ == "__main__":
    main()
