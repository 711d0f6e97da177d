"""The official client, made the same way everywhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from huggingface_hub import HfApi


CONNECT_SECONDS = 20.0
ANSWER_SECONDS = 300.0  # without a byte of an answer: a commit of many files takes the Hub minutes


def open_api() -> "HfApi":
    """The client, which says that zoo is asking; where and as whom are the environment's.

    Left to itself the client waits for ever for most answers (2.4.0, `default_client_factory`: no time
    limit). A limit that somebody has set stays.
    """
    from huggingface_hub import HfApi, get_session
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # httpx2 since 2.0, lazily exported

    from zoo import __version__

    session = get_session()
    if session.timeout == httpx.Timeout(None):
        session.timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
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
