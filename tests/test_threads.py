import os
import subprocess
import sys

SCRIPT = "import torch; from zoo.threads import settle; print(settle(), torch.get_num_threads())"


def settled(**environment: str) -> tuple[int, int]:
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said, used = done.stdout.split()
    return int(said), int(used)


def test_what_it_says_is_what_torch_uses() -> None:
    said, used = settled()

    assert said == used
    assert 1 <= used <= (os.cpu_count() or 1)


def test_the_variable_is_obeyed() -> None:
    assert settled(OMP_NUM_THREADS="1") == (1, 1)
    assert settled(OMP_NUM_THREADS="2") == (2, 2)


def test_the_faster_count_wins() -> None:
    script = (
        "import torch, zoo.threads as t; torch.set_num_threads(2);"
        "t._seconds = lambda n: {slow}; print(t.settle(), torch.get_num_threads())"
    )
    for slow, expected in (("n", "1 1"), ("-n", "2 2")):
        inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        done = subprocess.run(
            [sys.executable, "-P", "-c", script.format(slow=slow)],
            env=inherited,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == expected
