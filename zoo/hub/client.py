"""The official client, made the same way everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def open_api() -> "HfApi":
    """The client, which says that zoo is asking; where and as whom are the environment's."""
    from huggingface_hub import HfApi

    from zoo import __version__

    return HfApi(library_name="alora-zoo", library_version=__version__)


@contextmanager
def no_bars() -> Iterator[None]:
    """The client's own progress bars off in the block: they would be drawn over ours."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
