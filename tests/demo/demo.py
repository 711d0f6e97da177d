"""The main job from end to end: a standard LoRA becomes a verified, published aLoRA and is used.

Run by `make demo`. Every step prints the command a user would type, runs exactly that, and stops at the
first failure. Real weights (the embedded SmolLM2 base), real passages, the real Hub client against a
loopback Hub; nothing leaves the machine.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "demo"
TOKEN = "hf_demo_token_of_the_loopback_hub"
REPO = "demo/context-relevance-alora"
RELEASE = "build/demo/release"
SIZE = ("--train-passages", "70", "--test-passages", "50")  # of 173 and 110: what six minutes hold


def main() -> None:
    """Runs the steps and prints how long each took."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    begin = time.monotonic()
    python = [sys.executable]
    with loopback_hub() as hub:
        step(
            "Real passages, own question or another's",
            [*python, "tests/demo/relevance_data.py", "build/demo", *SIZE],
        )
        step(
            "Convert a standard LoRA, and recover what relabelling loses",
            [
                *("zoo", "convert", "tests/demo/relevance-lora", RELEASE),
                *("--base", "smollm2-135m-instruct"),
                *("--name", "context-relevance", "--invocation", r"<|im_start|>check\n"),
                *("--description", "Says whether a passage answers a question: yes or no."),
                *("--recover", "build/demo/train.jsonl", "--eval-data", "build/demo/test.jsonl"),
                *("--recover-steps", "60"),
            ],
        )
        step("Prove it", ["zoo", "validate", RELEASE, "--output", "build/demo/report.json", "--record"])
        step("Its card, from that evidence", ["zoo", "card", RELEASE])
        print(f"\n$ export HF_ENDPOINT={hub['HF_ENDPOINT']}   # the loopback Hub")
        step("Publish: one commit, one tag, read back", ["zoo", "publish", RELEASE, "--repo", REPO], hub)
        step(
            "Use it at its tag, on the base's cache",
            [*python, "tests/demo/use.py", REPO, "v0.1.0", "build/demo/test.jsonl"],
            hub,
        )
    print(f"\nDone in {time.monotonic() - begin:.0f} s. The release is in {RELEASE}.")


def step(title: str, command: list[str], environment: Mapping[str, str] | None = None) -> None:
    """Prints and runs one command; ends the demo when it fails."""
    shown = shlex.join(["python" if part == sys.executable else part for part in command])
    print(f"\n== {title}\n$ {shown}", flush=True)
    begin = time.monotonic()
    if command[0] == "zoo":
        command = [str(Path(sys.executable).with_name("zoo")), *command[1:]]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode != 0:
        sys.exit(f"the demo stopped: `{shown}` ended with exit code {done.returncode}")
    print(f"   ({time.monotonic() - begin:.0f} s)", flush=True)


@contextmanager
def loopback_hub() -> Iterator[dict[str, str]]:
    """Yields the environment of a Hub client that talks to a Hub on this machine only."""
    sys.path.append(str(ROOT))  # behind site-packages: the root's `validators/` must not shadow PyPI's
    from tests.hub.server import HubServer

    with HubServer(token=TOKEN) as hub:
        yield dict(hub.environment(OUT / "hub-home"))


if __name__ == "__main__":
    main()
