"""The Hub as a process: `python -m tests.hub --data DIR`.

Prints its address as the first line, then serves until SIGTERM or SIGINT.
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

if not __package__:
    # Started as a script: the path begins with this folder and lacks the project's root. The root goes last,
    # since its folder `validators` must not hide the package of that name.
    sys.path[0:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.hub.server import DEFAULT_TOKEN, HubServer


def main() -> None:
    """Read the options, serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="tests.hub", description="A Hub on loopback, for tests and the demo."
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument(
        "--data", type=Path, help="folder that keeps the state; without it the Hub starts empty"
    )
    parser.add_argument(
        "--token", default=DEFAULT_TOKEN, help="token of the only account (default: %(default)s)"
    )
    options = parser.parse_args()

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with HubServer(token=options.token, folder=options.data, port=options.port) as hub:
        sys.stdout.write(f"{hub.url}\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
