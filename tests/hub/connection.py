"""One connection: read a request, let the faults have their way, send the answer."""

import contextlib
import socket
import time
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.hub.faults import Fault, Faults
from tests.hub.requestlog import LoggedRequest, RequestLog
from tests.hub.routes import find_route, respond
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response


class HubListener(ThreadingHTTPServer):
    """The listening socket, one thread for each connection.

    Attributes:
        crashes: Tracebacks of defects in this server, as opposed to answers that say no.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, port: int, store: Store, faults: Faults, log: RequestLog) -> None:
        """Listen on 127.0.0.1; port 0 takes a free one."""
        super().__init__(("127.0.0.1", port), Connection)
        self.store = store
        self.faults = faults
        self.log = log
        self.crashes: list[str] = []

    @property
    def url(self) -> str:
        """The address to give to clients."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that went away; what breaks in here is in `crashes`."""


class Connection(BaseHTTPRequestHandler):
    """Reads requests from one connection until it is closed."""

    protocol_version = "HTTP/1.1"
    server: HubListener
    timeout = 60
    disable_nagle_algorithm = True  # or the body waits 40 ms for the client to acknowledge the headers

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing; requests are in the log."""

    def do_GET(self) -> None:
        """Handle any request; the other methods are the same function."""
        try:
            request = self._read_request()
        except EOFError:
            self._hang_up()
            return
        fault = self.server.faults.take(request.method, request.path)
        if fault.drop == "early":
            self._hang_up()
        try:
            response, handled = self._answer(request, fault)
        except Exception:
            self.server.crashes.append(f"{request.method} {request.path}\n{traceback.format_exc()}")
            error = HubError(HTTPStatus.INTERNAL_SERVER_ERROR, "The test double crashed")
            response, handled = error.response(), False
        dropped = fault.drop is not None
        self._log(request, None if dropped else response.status, handled)
        fault.ended.set()
        if dropped:
            self._hang_up()
        else:
            self._send(response, fault.truncate)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 (the names that http.server looks for)

    def _answer(self, request: Request, fault: Fault) -> tuple[Response, bool]:
        """Return the answer, and whether the Hub acted on the request. The fault's hooks run here."""
        time.sleep(fault.delay)
        if fault.meanwhile is not None:
            fault.meanwhile(self.server.store)
        instead = fault.response()
        if instead is not None or fault.drop == "before":
            return instead or Response(), False
        response = respond(self.server.store, request)
        if fault.twice is not None:
            again = respond(self.server.store, request)
            response = again if fault.twice == "second answer" else response
        if fault.afterwards is not None:
            fault.afterwards(self.server.store)
        return response, True

    def _read_request(self) -> Request:
        target = urlsplit(self.path)
        return Request(
            method=self.command,
            path=target.path,
            query=parse_qs(target.query, keep_blank_values=True),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self._read_body(),
            base_url=self.server.url,
        )

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read_exactly(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
            chunks.append(self._read_exactly(size))
            self._read_exactly(2)
        while (line := self.rfile.readline()) != b"\r\n":  # trailers, and the line that ends the body
            if not line:
                raise EOFError
        return b"".join(chunks)

    def _read_exactly(self, size: int) -> bytes:
        """Read from the client; half a body is none, however well it happens to parse.

        Raises:
            EOFError: The client is gone.
        """
        content = self.rfile.read(size)
        if len(content) < size:
            raise EOFError
        return content

    def _send(self, response: Response, truncate: int | None) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("X-Request-Id", f"hub-{len(self.server.log)}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[:truncate])
        if truncate is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def _log(self, request: Request, status: int | None, handled: bool) -> None:
        found = find_route(request.method, request.path)
        account = self.server.store.accounts.get(request.headers.get("authorization", "").partition(" ")[2])
        self.server.log.add(
            LoggedRequest(
                method=request.method,
                path=request.path,
                query=urlsplit(self.path).query,
                status=status,
                handled=handled,
                write=found is not None and found[0].access.is_write,
                account=account.name if account else None,
            )
        )
