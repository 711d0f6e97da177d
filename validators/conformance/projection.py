"""A few numbers that stand for a prefix's keys and values, and that survive other hardware.

A hash changes with the last bit of one number, and other hardware rounds other last bits. A projection onto a
random direction moves by as much as the numbers do.
"""

from typing import TYPE_CHECKING, Any

from zoo.validators.conformance.kv import Layers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 20261122
COUNT = 4
PARTS = ("key", "value")
SCOPES = ("prefix", "last token of the prefix")
HOW = (
    "[layer, key or value, whole prefix or its last token, projection]; x is a layer's keys (after rotary "
    "embedding, as transformers' DynamicCache holds them) or values, float64, flattened from [heads, tokens, "
    "head size]; projection r is sum(s[i] * x[i]) / sqrt(n) with s[i] = 1 where bit i % 64 of word i // 64 "
    "of numpy.random.Philox(key=seed + r).random_raw(...) is set, else -1"
)


def project(layers: Layers, *, seed: int = SEED, count: int = COUNT) -> "NDArray[np.float64]":
    """Projects the keys and values of one prefix.

    A change at one token of the prefix moves the first scope by the root of its share of the prefix only, so
    the last token, where a start one token early would show, has projections of its own.

    Args:
        layers: keys and values a layer, each `[1, heads, tokens, head]`, of a prefix without tokens all is 0.
        seed: of the signs.
        count: number of projections.

    Returns:
        float64 `[layers, parts, scopes, count]`.
    """
    import numpy as np

    signs: dict[int, NDArray[Any]] = {}
    found = np.zeros((len(layers), len(PARTS), len(SCOPES), count))
    for index, pair in enumerate(layers):
        for part, tensor in enumerate(pair):
            if not tensor.shape[-2]:
                continue
            values = tensor[0].double().cpu().numpy()
            for scope, chosen in enumerate((values, values[:, -1:])):
                flat = chosen.ravel()
                if flat.size not in signs:
                    signs[flat.size] = _signs(flat.size, seed=seed, count=count)
                found[index, part, scope] = signs[flat.size] @ flat / np.sqrt(flat.size)
    return found


def sizes(layers: Layers) -> "NDArray[np.float64]":
    """The root mean square of each layer's keys and values: float64 `[layers, parts]`."""
    import numpy as np

    return np.array([[float(part.double().square().mean().sqrt()) for part in pair] for pair in layers])


def _signs(size: int, *, seed: int, count: int) -> "NDArray[np.float64]":
    """Signs `[count, size]`. The bits of a bit generator are fixed for ever, its distributions are not."""
    import numpy as np

    rows = []
    for row in range(count):
        words = np.random.Philox(key=seed + row).random_raw(-(-size // 64))
        bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")[:size]
        rows.append(bits.astype(np.float64) * 2 - 1)
    return np.stack(rows)
