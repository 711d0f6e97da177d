"""How many threads torch shall compute with on this machine, measured instead of guessed.

On cores that other work shares, two OpenMP threads wait for each other at every small matrix product: a
training step was measured 25 times slower on two threads than on one. On idle cores two threads gain up to
1.9 times. Which holds cannot be read off the number of cores.
"""

import os
import time
from functools import cache

_ROWS, _WIDTH, _LAYERS, _ROUNDS = 64, 576, 24, 5


@cache
def settle() -> int:
    """Measures once per process and sets torch's thread count to the fastest; returns it.

    `OMP_NUM_THREADS` is obeyed as it is, and nothing is measured then.
    """
    import torch

    most = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ or most == 1:
        return most
    candidates = sorted({1, max(1, most // 2), most})
    best = min(candidates, key=_seconds)
    torch.set_num_threads(best)
    return best


def _seconds(threads: int) -> float:
    """Median time of a chain of products of the size that a short suffix makes."""
    import torch

    torch.set_num_threads(threads)
    weight, rows = torch.ones(_WIDTH, _WIDTH), torch.ones(_ROWS, _WIDTH)
    times = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        for _ in range(_LAYERS):
            rows = torch.nn.functional.silu(rows @ weight).clamp(max=1.0)
        times.append(time.perf_counter() - begin)
    return sorted(times)[_ROUNDS // 2]
