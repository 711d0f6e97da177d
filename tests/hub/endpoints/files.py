"""Downloads."""

import re
from http import HTTPStatus

from tests.hub.objects import File
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response, entry_not_found, repository_not_found


def resolve(store: Store, request: Request) -> Response:
    """`GET, HEAD /{repo}/resolve/{revision}/{path}`: a file at a revision.

    The real Hub sends LFS files through a redirect to a content server; this one gives them itself. What the
    client needs from that answer is in the headers: the commit that the revision means now, and for an LFS
    file its sha256 and size (`X-Linked-*`). `X-Xet-Hash` and the link `xet-auth` let a client with hf_xet
    take it from the Xet store.
    """
    repository = store.readable_repository(request["repo"], request.account)
    commit = repository.resolve(request["revision"])
    file = commit.files.get(request["path"])
    if file is None:
        raise entry_not_found(f"{request['path']} does not exist on {request['revision']}", commit.oid)
    headers = {"ETag": f'"{file.etag}"', "X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    headers["Content-Type"] = "application/octet-stream" if file.lfs else "text/plain; charset=utf-8"
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    if file.xet_hash:
        renew = f"{request.base_url}/api/models/{repository.id}/xet-read-token/{commit.oid}"
        headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{renew}>; rel="xet-auth"'}
    return _content(store, file, request.headers.get("range"), headers)


def _content(store: Store, file: File, wanted: str | None, headers: dict[str, str]) -> Response:
    """Answer with the whole content, or with the one range that was asked for (RFC 9110, section 14)."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    if found is None or found.groups() == ("", ""):
        return Response(body=store.blobs.read(file.sha256), headers=headers)
    first, last = found.groups()
    start = int(first) if first else max(file.size - int(last), 0)
    stop = min(int(last) + 1, file.size) if first and last else file.size
    if start >= stop:
        unsatisfied = {"Content-Range": f"bytes */{file.size}"}
        raise HubError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "Range Not Satisfiable", headers=unsatisfied
        )
    headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{file.size}"}
    return Response(
        status=HTTPStatus.PARTIAL_CONTENT, body=store.blobs.read(file.sha256, start, stop), headers=headers
    )


def nameless(store: Store, request: Request) -> Response:
    """`GET /{name}/resolve/{revision}/{path}`: an id without a namespace, of which this Hub has none."""
    raise repository_not_found(request.account)


ROUTES = (
    Route("GET", "/{repo}/resolve/{revision}/{path}", Access.ANYONE, resolve),
    Route("GET", "/{name}/resolve/{revision}/{path}", Access.ANYONE, nameless),
)
