"""Collections: repositories under a heading. The 409 of one that exists has its slug; the client reads it."""

import re
import secrets
from http import HTTPStatus
from typing import Any

from tests.hub.repository import now
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response, json_response


def create(store: Store, request: Request) -> Response:
    """`POST /api/collections`: an empty one; a title is there once in a namespace."""
    body = request.json()
    title, owner = str(body.get("title") or ""), str(body.get("namespace") or request.sender.name)
    if not title:
        raise HubError(HTTPStatus.BAD_REQUEST, "A collection needs a title")
    for known in store.collections.values():
        if (known["owner"], known["title"]) == (owner, title):
            raise HubError(
                HTTPStatus.CONFLICT, "This collection already exists", body={"slug": known["slug"]}
            )
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    slug = f"{owner}/{words}-{secrets.token_hex(12)}"
    store.collections[slug] = {
        "slug": slug, "title": title, "owner": owner, "items": [], "lastUpdated": now(), "position": 0,
        "private": bool(body.get("private")), "theme": "green", "upvotes": 0,
        "description": body.get("description"),
    }  # fmt: skip
    return json_response(store.collections[slug])


def read(store: Store, request: Request) -> Response:
    """`GET /api/collections/{slug}`."""
    return json_response(_collection(store, request))


def add_item(store: Store, request: Request) -> Response:
    """`POST /api/collections/{slug}/items`: a model repository, once."""
    found, body = _collection(store, request), request.json()
    item = body.get("item") or {}
    if item.get("type") != "model":
        raise HubError(HTTPStatus.BAD_REQUEST, "This Hub's collections hold models")
    repository = store.visible_repository(str(item.get("id")), request.account)
    if repository.id in [one["id"] for one in found["items"]]:
        raise HubError(HTTPStatus.CONFLICT, "This item is in the collection already")
    found["items"].append(
        {
            "_id": secrets.token_hex(12),
            "id": repository.id,
            "type": "model",
            "position": len(found["items"]),
            **({"note": {"text": body["note"], "html": body["note"]}} if body.get("note") else {}),
        }
    )
    return json_response(found)


def _collection(store: Store, request: Request) -> dict[str, Any]:
    found = store.collections.get(request["repo"])
    if found is None:
        raise HubError(HTTPStatus.NOT_FOUND, "Collection not found")
    return found


ROUTES = (
    Route("POST", "/api/collections", Access.WRITE, create),
    Route("GET", "/api/collections/{repo}", Access.ANYONE, read),
    Route("POST", "/api/collections/{repo}/items", Access.WRITE, add_item),
)
