"""What the client raises, as zoo's errors; no message carries a token."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoo.credentials import redacted
from zoo.errors import HubError, NotFoundError, RefusedError, ZooError

LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may do this"
_SECRET = re.compile(r"hf_[A-Za-z0-9_]{4,}|(?i:bearer)\s+\S+|eyJ[\w-]{10,}\.[\w.-]+")  # also a part of one


class UnavailableError(HubError):
    """The Hub did not answer, or not now; the same request may succeed later.

    Attributes:
        retry_after: seconds that the Hub asked to wait; 0 when it did not say.
    """

    retry_after: float = 0.0


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turns what the client raises into zoo's errors; `doing` completes "cannot …".

    The original is not chained: it holds the request, and with it the token.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        OfflineModeIsEnabled,
        OIDCError,
        RevisionNotFoundError,
        RevisionResolutionError,
        XetDownloadError,
    )
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # httpx2 since 2.0, lazily exported

    try:
        yield
    except ZooError:
        raise
    except RevisionNotFoundError as error:
        raise NotFoundError(f"cannot {doing}: no such revision", hint=_server_said(error)) from None
    except HfHubHTTPError as error:
        raise _from_status(doing, error) from None
    except OfflineModeIsEnabled:
        raise HubError(
            f"cannot {doing}: the client is in offline mode", hint="unset HF_HUB_OFFLINE"
        ) from None
    except OIDCError as error:
        raise HubError(f"cannot {doing}: {_clean(error)}", hint=LOGIN, code="ZH007") from None
    except (httpx.HTTPError, RevisionResolutionError, XetDownloadError, ConnectionError) as error:
        raise _unavailable(doing, error) from None
    except RuntimeError as error:  # the client wraps failed uploads of large files in it
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _from_status(doing, error.__cause__) from None
        raise _unavailable(doing, error.__cause__ or error) from None
    except ValueError as error:
        if "README.md" in str(error):
            raise card_refused(error) from None
        raise
    except OSError as error:
        if error.errno not in (None, errno.ENOENT):
            raise  # a full disk, a missing permission: of this machine, not of the Hub
        raise _unavailable(doing, error) from None


def _from_status(doing: str, error: Any) -> ZooError:
    status: int = error.response.status_code
    said = _server_said(error)
    reason = f": {said}" if said else ""
    if status in (402, 413, 507) or (status == 403 and "storage" in said.lower()):
        return HubError(
            f"cannot {doing}: the Hub has no room for it (HTTP {status}){reason}",
            hint="free or ask for storage there, then run the same command again",
            code="ZH016",
        )
    if status in (401, 403):
        return HubError(f"cannot {doing}: no access (HTTP {status}){reason}", hint=LOGIN, code="ZH007")
    if status == 404:
        return NotFoundError(f"cannot {doing}: not on the Hub{reason}", hint="check the name")
    if status == 412:
        return HubError(
            f"cannot {doing}: main moved while the release was being prepared",
            hint="look at what changed there, then run the same command again",
            code="ZH003",
        )
    if status == 408 or status == 429 or status >= 500:
        unavailable = UnavailableError(
            f"cannot {doing}: HTTP {status}{reason}", hint="run the same command again later", code="ZH008"
        )
        unavailable.retry_after = _retry_after(error)
        return unavailable
    if "README.md" in said or "metadata" in said:
        return card_refused(said)
    return HubError(
        f"cannot {doing}: HTTP {status}{reason}", hint="see what the Hub says, and the status page"
    )


def _unavailable(doing: str, error: BaseException) -> UnavailableError:
    return UnavailableError(
        f"cannot {doing}: no answer from the Hub ({_clean(error) or type(error).__name__})",
        hint="check the connection and HF_ENDPOINT, then run the same command again",
        code="ZH008",
    )


def card_refused(said: object) -> RefusedError:
    """ZH005: the Hub does not take a card, and says why."""
    return RefusedError(
        f"the Hub rejects the card's metadata: {_clean(said)}",
        hint="correct zoo.yaml (license, languages, base id)",
        code="ZH005",
    )


def _server_said(error: Any) -> str:
    return _clean(getattr(error, "server_message", None) or "")


def _retry_after(error: Any) -> float:
    try:
        return max(0.0, float(error.response.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0


def _clean(said: object) -> str:
    """One line of at most 300 characters without anything that looks like a token."""
    return redacted(_SECRET.sub("(secret)", " ".join(str(said).split())))[:300]
