"""Uploads of large files by git-LFS: ask where to, send, have it verified.

Source: git-lfs, `docs/api/batch.md` and `docs/api/basic-transfers.md`.
"""

import hashlib
import hmac
from http import HTTPStatus
from typing import Any

from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response, json_response

_LFS_JSON = {"Content-Type": "application/vnd.git-lfs+json"}


def batch(store: Store, request: Request) -> Response:
    """`POST /{repo}.git/info/lfs/objects/batch`: an upload link for each content that is not known yet."""
    repository = store.visible_repository(request["repo"], request.account)
    body = request.json()
    if body.get("operation") != "upload":
        raise HubError(HTTPStatus.UNPROCESSABLE_ENTITY, "This Hub gives LFS links for uploads only")
    verify = f"{request.base_url}/{repository.id}.git/info/lfs/objects/verify"
    objects = []
    for item in body.get("objects", []):
        sha256, size = str(item["oid"]), int(item["size"])
        answer: dict[str, Any] = {"oid": sha256, "size": size, "authenticated": True}
        if sha256 not in store.blobs:
            link = f"{request.base_url}/lfs-upload/{sha256}?signature={_signature(store, sha256)}"
            answer["actions"] = {
                "upload": {"href": link, "header": {}},
                "verify": {"href": verify, "header": {}},
            }
        objects.append(answer)
    return json_response({"transfer": "basic", "objects": objects}, headers=_LFS_JSON)


def upload(store: Store, request: Request) -> Response:
    """`PUT /lfs-upload/{sha256}?signature=...`: the content. The link is the permission; no token is sent."""
    sha256 = request["sha256"]
    if not hmac.compare_digest(request.query.get("signature", [""])[-1], _signature(store, sha256)):
        raise HubError(HTTPStatus.FORBIDDEN, "SignatureDoesNotMatch")
    if hashlib.sha256(request.body).hexdigest() != sha256:
        raise HubError(HTTPStatus.BAD_REQUEST, "the content has another sha256 than was announced")
    store.blobs.add(request.body)
    return Response()


def verify(store: Store, request: Request) -> Response:
    """`POST /{repo}.git/info/lfs/objects/verify`: did it arrive?"""
    body = request.json()
    sha256 = str(body.get("oid"))
    if sha256 not in store.blobs or store.blobs.size(sha256) != body.get("size"):
        raise HubError(HTTPStatus.NOT_FOUND, "the content did not arrive")
    return json_response({}, headers=_LFS_JSON)


def _signature(store: Store, sha256: str) -> str:
    return hmac.new(store.secret, sha256.encode(), "sha256").hexdigest()


ROUTES = (
    Route("POST", "/{repo}.git/info/lfs/objects/batch", Access.WRITE, batch),
    Route("PUT", "/lfs-upload/{sha256}", Access.SIGNED_LINK, upload),
    Route("POST", "/{repo}.git/info/lfs/objects/verify", Access.WRITE, verify),
)
