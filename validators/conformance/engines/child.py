"""A process of ours that runs an engine: stderr in a file, its death told in a sentence, its end certain."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zoo.errors import EngineError

TAIL_LINES = 9
TAIL_BYTES = 4000
STOP_SECONDS = 10.0


class Child:
    """One script of ours in a Python of its own.

    The script ends when its standard input does: the pipe closes with this process, however that ends.

    Attributes:
        scratch: a folder that lives as long as the child.
    """

    def __init__(
        self, name: str, script: str, arguments: Sequence[str], *, scratch: Path, python: str = sys.executable
    ) -> None:
        """Starts the script.

        Args:
            name: the engine's, for messages.
            script: file name beside this module.
            arguments: passed to it.
            scratch: a folder of the child's own; removed on close.
            python: the interpreter.
        """
        self.name = name
        self.scratch = scratch
        self._log = scratch / "stderr.txt"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                # -P: the folder of the script has modules called like packages (vllm)
                [python, "-P", str(Path(__file__).with_name(script)), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for us; we stop the child
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        atexit.register(self.close)

    def line(self, *, timeout: float) -> str:
        """The next line of the child's standard output, without its end.

        Raises:
            EngineError: it died, or said nothing within `timeout` seconds.
        """
        import select

        pipe = self.process.stdout
        if pipe is None or not select.select([pipe], [], [], timeout)[0]:
            raise EngineError(f"{self.name} did not answer within {timeout:g} s; it last said: {self.tail()}")
        text = pipe.readline()
        if not text:
            raise self.death()
        return text.decode(errors="replace").rstrip("\n")

    def say(self, text: str) -> None:
        """Sends one line to the child's standard input.

        Raises:
            EngineError: it died.
        """
        try:
            if self.process.stdin is not None:
                self.process.stdin.write(text.encode() + b"\n")
                self.process.stdin.flush()
        except OSError:
            raise self.death() from None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def death(self) -> EngineError:
        """What to raise when it is gone: its status and last words."""
        deadline = time.monotonic() + 2.0  # its pipe closes a moment before its status is known
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        status = self.process.poll()
        how = "stopped answering" if status is None else f"ended with status {status}"
        return EngineError(f"{self.name} {how}; it last said: {self.tail()}")

    def tail(self) -> str:
        """The last lines of its stderr, as one line."""
        try:
            with self._log.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        return " | ".join(line[:200] for line in lines[-TAIL_LINES:])

    def close(self) -> None:
        """Ends the process and removes its scratch folder; more than once does no harm."""
        atexit.unregister(self.close)
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


def new_scratch() -> Path:
    """A private temporary folder for one engine."""
    return Path(tempfile.mkdtemp(prefix="zoo-engine-"))
