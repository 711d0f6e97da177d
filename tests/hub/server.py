"""The Hub as a context manager."""

import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.hub.connection import HubListener
from tests.hub.faults import Faults
from tests.hub.requestlog import RequestLog
from tests.hub.store import Store
from tests.hub.wire import Account

DEFAULT_TOKEN = "hf_loopback_write"


class HubServer:
    """A Hub on 127.0.0.1, in a thread of this process, from `with` to its end.

        with HubServer() as hub:
            hub.store.create("org/name")
            subprocess.run([...], env=os.environ | hub.environment(tmp_path / "home"), check=True)
            assert hub.store.contents("org/name", "v1.0.0")["README.md"] == ...
            assert len(hub.requests.matching("POST", r"/api/models/org/name/commit/main")) == 1

    If the server itself breaks on a request, leaving the `with` raises: no test passes over a defect of its
    double.

    Attributes:
        token: The token of the account `tester`, which may write everywhere.
        store: What is on the Hub; tests read it, and write to it in the role of somebody else.
        faults: What is to go wrong.
        requests: What was asked.
    """

    def __init__(self, *, token: str = DEFAULT_TOKEN, folder: Path | None = None, port: int = 0) -> None:
        """Prepare a Hub; it listens from `__enter__` on.

        Args:
            token: The token of the account `tester`.
            folder: Where its state is kept, so that a later server goes on from it; None for a temporary
                folder.
            port: Port to listen on; 0 for a free one.
        """
        self.token = token
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="hub-")
        place = Path(self._temporary.name) if self._temporary else Path(str(folder))
        self.store = Store(place, {token: Account(name="tester", orgs=("org",))})
        self.faults = Faults()
        self.requests = RequestLog()
        self._listener = HubListener(port, self.store, self.faults, self.requests)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The address to give to clients, without a slash at the end."""
        return self._listener.url

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        if self._temporary is not None:
            self._temporary.cleanup()
        if self._listener.crashes and error is None:
            raise RuntimeError("The Hub test double crashed:\n" + "\n".join(self._listener.crashes))

    def environment(self, home: Path, *, xet: bool = True, token: str | None = None) -> dict[str, str]:
        """Return the environment variables that make a client process use this Hub and nothing else.

        Every path that the client would otherwise take from the caller's environment is set, so that neither
        a cache nor a token of the person who runs the tests is touched.

        Args:
            home: Folder for the client's cache and settings; a fresh one for a client that has seen nothing.
            xet: Whether large files go by Xet, if hf_xet is installed; otherwise by plain LFS.
            token: The client's token; None for `self.token`, `""` for a client that is not logged in.
        """
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token if token is None else token,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_XET_CACHE": str(home / "xet"),
            "HF_ASSETS_CACHE": str(home / "assets"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }
