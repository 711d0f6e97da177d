"""Where the content store is, and a token for it. What happens there: `tests.hub.xet`."""

import time

from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import Request, Response, json_response

_ONE_HOUR = 3600


def write_token(store: Store, request: Request) -> Response:
    """`GET .../xet-write-token/{revision}`: where to upload the large files of the next commit.

    For a pull request that does not exist yet the client sends `None` as the revision.
    """
    repository = store.visible_repository(request["repo"], request.account)
    if not request.flag("create_pr"):
        repository.resolve(request["revision"])
    return _token(store.xet.upload_address())


def read_token(store: Store, request: Request) -> Response:
    """`GET .../xet-read-token/{revision}`: where to download the large files of a revision."""
    commit = store.readable_repository(request["repo"], request.account).resolve(request["revision"])
    contents = {
        file.xet_hash: store.blobs.path(file.sha256) for file in commit.files.values() if file.xet_hash
    }
    return _token(store.xet.download_address(contents))


def _token(address: str) -> Response:
    """Answer with the same three facts as headers, for the client, and as JSON, for hf_xet."""
    expires = int(time.time()) + _ONE_HOUR
    return json_response(
        {"casUrl": address, "accessToken": "xet-token", "exp": expires},
        headers={
            "X-Xet-Cas-Url": address,
            "X-Xet-Access-Token": "xet-token",
            "X-Xet-Token-Expiration": str(expires),
        },
    )


ROUTES = (
    Route("GET", "/api/models/{repo}/xet-write-token/{revision}", Access.WRITE, write_token),
    Route("GET", "/api/models/{repo}/xet-read-token/{revision}", Access.ANYONE, read_token),
)
