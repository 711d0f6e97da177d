"""Real `zoo` processes that are killed: forked from one that has torch and the client imported already.

Run by `spawner` as `python -m tests.publishing.spawner [--unchecked]`; it answers lines of JSON on stdin.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 4.0  # unchecked: how long an answer is waited for
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
STEPS = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate",
    "shutil.copyfile", "shutil.copytree", "shutil.rmtree", "ctypes.dlopen",
}  # fmt: skip


def serve(*, checked: bool) -> None:
    """Forks a `zoo` for each line of JSON on stdin; answers with its pid, then with its status.

    Args:
        checked: run the real checks; otherwise a made-up report that passed, so that a test needs no torch.
    """
    import huggingface_hub.hf_api  # noqa: F401

    import zoo.ci.gate
    import zoo.cli
    import zoo.hub.client
    import zoo.publishing.repository
    import zoo.publishing.review
    import zoo.publishing.stage
    import zoo.release
    import zoo.validators.catalog

    if checked:
        import peft  # noqa: F401
        import torch  # noqa: F401
        import transformers.models.llama.modeling_llama  # noqa: F401
    else:
        from tests.releases import report_on

        for module in (zoo.publishing.stage, zoo.publishing.review):
            setattr(module, "validate", lambda path, **_: report_on(Path(path)))  # noqa: B010
        zoo.ci.gate.reviewer = lambda *_, **__: lambda path: report_on(Path(path))
        zoo.publishing.repository.RETRY_SECONDS = (0.05, 0.1, 0.2)
        zoo.hub.client.ANSWER_SECONDS = PATIENCE_SECONDS

    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            count = watch_steps(wanted["within"], wanted["step"])
            code = zoo.cli.run(wanted["arguments"])
            if wanted["count_to"]:
                Path(wanted["count_to"]).write_text(str(count()))
            sys.stdout.flush()
            os._exit(code)
        print(json.dumps(child), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def watch_steps(within: str, fatal: int | None) -> Callable[[], int]:
    """Counts this process's writing steps below `within`, and kills it just before step number `fatal`."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & WRITING:
                return
        elif event not in STEPS:
            return
        if event != "ctypes.dlopen" and not any(within in os.fsdecode(a) for a in arguments if _is_path(a)):
            return
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    sys.addaudithook(hook)
    return lambda: seen


def _is_path(value: object) -> bool:
    return isinstance(value, str | bytes | os.PathLike)


@dataclass
class Spawner:
    """Starts commands in forked processes and reports how they end."""

    process: "subprocess.Popen[str]"
    work: Path

    def run(
        self,
        *arguments: object,
        started: Callable[[int], object] | None = None,
        step: int | None = None,
        count_to: Path | None = None,
    ) -> int:
        """Runs `zoo` with arguments; `started` receives its pid. Returns the exit code, -9 when killed."""
        assert self.process.stdin
        assert self.process.stdout
        wanted = {
            "arguments": [str(one) for one in arguments],
            "step": step,
            "within": str(self.work),
            "count_to": str(count_to) if count_to else "",
            "log": str(self.work / "log"),
        }
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        pid = int(self.process.stdout.readline())
        timer = started(pid) if started is not None else None
        code = int(self.process.stdout.readline())
        if isinstance(timer, threading.Timer):
            timer.cancel()  # the process is gone, and its number may be another's soon
        return code


@contextmanager
def spawner(work: Path, environment: dict[str, str], *, checked: bool) -> Iterator[Spawner]:
    """A warm process that forks, told about the Hub before it imports the client."""
    settings = {"OMP_NUM_THREADS": "1", "TMPDIR": str(work / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    (work / "tmp").mkdir()
    options = [] if checked else ["--unchecked"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.publishing.spawner", *options],
        cwd=ROOT,
        env={**os.environ, **settings, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Spawner(process, work)
    finally:
        process.communicate(timeout=120)  # closes its stdin, which ends it


if __name__ == "__main__":
    serve(checked="--unchecked" not in sys.argv)
