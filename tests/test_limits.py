import re
import resource
import signal
import threading
import time

import pytest

from zoo.limits import LimitError, limited

MIB = 1 << 20


def test_a_backtracking_pattern_is_interrupted() -> None:
    begin = time.perf_counter()
    took_longer = pytest.raises(LimitError, match=r"the pattern took longer than 0\.2 s")
    with took_longer, limited("the pattern", seconds=0.2, memory=64 * MIB):
        re.fullmatch(r"(a+)+b", "a" * 40)
    assert time.perf_counter() - begin < 5


def test_an_allocation_beyond_the_limit_fails_and_a_smaller_one_does_not() -> None:
    with limited("work", seconds=5, memory=64 * MIB):
        assert len(bytearray(8 * MIB)) == 8 * MIB
        with pytest.raises(MemoryError):
            bytearray(512 * MIB)
    assert len(bytearray(128 * MIB)) == 128 * MIB


def test_torch_cannot_allocate_beyond_the_limit_either() -> None:
    import torch

    with limited("work", seconds=5, memory=64 * MIB), pytest.raises(RuntimeError, match="memory"):
        torch.empty(512 * MIB, dtype=torch.uint8).fill_(1)
    assert torch.empty(128 * MIB, dtype=torch.uint8).fill_(1)[0] == 1


def test_both_limits_end_with_the_block_even_when_it_raises() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGALRM)
    with pytest.raises(ZeroDivisionError), limited("work", seconds=0.05, memory=MIB):
        raise ZeroDivisionError
    time.sleep(0.1)
    assert (resource.getrlimit(resource.RLIMIT_DATA), signal.getsignal(signal.SIGALRM)) == before


def test_another_thread_runs_without_a_clock() -> None:
    done: list[str] = []

    def work() -> None:
        with limited("work", seconds=0.01, memory=64 * MIB):
            time.sleep(0.05)
        done.append("whole")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["whole"]
