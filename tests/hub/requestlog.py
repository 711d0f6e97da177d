"""What the client asked for, so that a test can say "exactly one commit" or "nothing was written"."""

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One request as it ended.

    Attributes:
        path: As sent, percent-encoded, without the query.
        query: As sent; empty without one.
        status: Status of the answer; None if the connection was dropped instead.
        handled: Whether the Hub acted on it; False if a fault answered or dropped it first.
        write: Whether its route changes the Hub or asks for leave to upload.
        account: User name of the sender, or None.
    """

    method: str
    path: str
    query: str
    status: int | None
    handled: bool
    write: bool
    account: str | None

    def __str__(self) -> str:
        return (
            f"{self.method} {self.path}{'?' + self.query if self.query else ''} -> {self.status or 'dropped'}"
        )


class RequestLog:
    """All requests in the order in which they were answered."""

    def __init__(self) -> None:
        """Start empty."""
        self._requests: list[LoggedRequest] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[LoggedRequest]:
        with self._lock:
            return iter(list(self._requests))

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: LoggedRequest) -> None:
        """Note a request, before its answer is sent: whoever has the answer finds the request here."""
        with self._lock:
            self._requests.append(request)

    def clear(self) -> None:
        """Forget what was noted."""
        with self._lock:
            self._requests.clear()

    def matching(self, method: str = "*", path: str = ".*") -> list[LoggedRequest]:
        """Return the requests with this method (`*`: any) whose whole path matches the regular expression."""
        return [one for one in self if method in ("*", one.method) and re.fullmatch(path, one.path)]

    def writes(self) -> list[LoggedRequest]:
        """Return the requests that changed the Hub, tried to, or asked for leave to upload."""
        return [one for one in self if one.write]
