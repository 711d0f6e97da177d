"""What goes wrong, as data: rules that a test hands to the Hub before it starts the client."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.hub.store import Store
from tests.hub.wire import HubError, Response


@dataclass(slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    A request matches by method and by its whole path. What happens then is whatever is set, in this order:
    `delay`, `meanwhile`, connection dropped `before`, `status` instead of an answer, the request handled
    (`twice`), `afterwards`, connection dropped `after`, body cut at `truncate`. With `drop="early"` the
    client is gone first: then come the delay and the handling, while it tries something else.

    Examples:
        The server fails once: `Fault(method="POST", path=r"/api/models/.*/commit/.*", status=500)`.
        Too many requests: `Fault(status=429, headers={"Retry-After": "1"})`.
        Somebody commits first, so that the 412 is real:
        `Fault(path=r".*/commit/.*", meanwhile=lambda store: store.commit("org/name", {"x.txt": b"theirs"}))`.
        Committed, but the client never hears of it: `Fault(path=r".*/commit/.*", drop="after")`.
        Sent twice by something on the way: `Fault(path=r".*/commit/.*", twice="second answer")`.
        The client is killed at its fifth request: `Fault(skip=4, meanwhile=lambda _: process.kill(),
        drop="before")`.

    Attributes:
        method: Method to match, or `*` for any.
        path: Regular expression for the whole path, percent-encoded as sent, without the query.
        skip: Let this many matching requests pass first.
        times: Fire at most this often; None for always.
        status: Answer with this status and a JSON error, without handling the request.
        message: The error's text.
        code: The error's `X-Error-Code`.
        headers: Headers of that answer.
        delay: Seconds to wait first.
        meanwhile: Called before the request is handled, with the store: what somebody else does in between.
        afterwards: Called after the request was handled, before it is answered.
        drop: Close the connection without an answer, before or after handling the request, or `early`: before
            it is handled, which it is all the same.
        twice: Handle the request a second time, and give the first or the second answer.
        truncate: Announce the whole body, send this many bytes of it, close the connection.
        fired: How often it has fired.
        ended: Set when everything about a request that it applied to is over.
    """

    method: str = "*"
    path: str = ".*"
    skip: int = 0
    times: int | None = 1
    status: int | None = None
    message: str = "Injected by the test"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    meanwhile: Callable[[Store], object] | None = None
    afterwards: Callable[[Store], object] | None = None
    drop: Literal["early", "before", "after"] | None = None
    twice: Literal["first answer", "second answer"] | None = None
    truncate: int | None = None
    fired: int = field(default=0, init=False)
    matched: int = field(default=0, init=False)
    ended: threading.Event = field(default_factory=threading.Event, init=False)

    def response(self) -> Response | None:
        """Return the answer that replaces the real one, or None if the request is to be handled."""
        if self.status is None:
            return None
        return HubError(self.status, self.message, code=self.code, headers=self.headers).response()


class Faults:
    """The rules in force. The first that matches and is not used up applies; the others see nothing."""

    def __init__(self) -> None:
        """Start without any."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Put a rule in force and return it, so that the test can read `fired` later."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Take all rules out of force."""
        with self._lock:
            self._faults.clear()

    def take(self, method: str, path: str) -> Fault:
        """Return the rule for a request, counted as fired; one that does nothing if none applies."""
        with self._lock:
            for fault in self._faults:
                if fault.method not in ("*", method) or not re.fullmatch(fault.path, path):
                    continue
                if fault.times is not None and fault.fired >= fault.times:
                    continue
                fault.matched += 1
                if fault.matched > fault.skip:
                    fault.fired += 1
                    return fault
        return Fault()
