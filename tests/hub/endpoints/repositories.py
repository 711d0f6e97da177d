"""Make, find, describe and delete repositories."""

from http import HTTPStatus
from typing import Any

from tests.hub import card
from tests.hub.objects import Commit, File, lfs_pointer
from tests.hub.repository import Repository
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response, json_response, repository_not_found


def create(store: Store, request: Request) -> Response:
    """`POST /api/repos/create`: a new model repository; its `url` is also in the 409 of one that exists."""
    body = request.json()
    repo_id = _repo_id(request, body)
    url = {"url": f"{request.base_url}/{repo_id}", "name": repo_id}
    try:
        store.create(repo_id, private=bool(body.get("private")) or body.get("visibility") == "private")
    except HubError as error:
        error.body |= url
        raise
    return json_response(url | {"id": repo_id})


def delete(store: Store, request: Request) -> Response:
    """`DELETE /api/repos/delete`: forget a repository with everything in it."""
    repo_id = _repo_id(request, request.json())
    store.visible_repository(repo_id, request.account)
    store.delete(repo_id)
    return json_response({})


def change_settings(store: Store, request: Request) -> Response:
    """`PUT /api/models/{repo}/settings`: who gets at it."""
    repository = store.visible_repository(request["repo"], request.account)
    body = request.json()
    if "gated" in body:
        if body["gated"] not in ("auto", "manual", False):
            raise HubError(HTTPStatus.BAD_REQUEST, "gated is auto, manual or false")
        repository.gated = body["gated"] or ""
    if "visibility" in body or "private" in body:
        repository.private = body.get("visibility") == "private" or body.get("private") is True
    return json_response({})


def search(store: Store, request: Request) -> Response:
    """`GET /api/models`: repositories by `author`, and by `search` in the id; private ones with a token."""
    author = request.query.get("author", [None])[-1]
    text = request.query.get("search", [""])[-1].lower()
    found = [
        repository
        for repository in store.repositories()
        if author in (None, repository.namespace)
        and text in repository.id.lower()
        and (request.account is not None or not repository.private)
    ]
    return json_response([describe(store, one, one.resolve("main"), blobs=False) for one in found])


def info(store: Store, request: Request) -> Response:
    """`GET /api/models/{repo}[/revision/{revision}]`: one repository at one revision."""
    repository = store.visible_repository(request["repo"], request.account)
    commit = repository.resolve(request.variables.get("revision", "main"))
    answer = describe(store, repository, commit, blobs=request.flag("blobs"))
    if request.flag("securityStatus"):
        answer["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": []}
    if "expand" in request.query:
        answer = {key: answer[key] for key in answer if key in {"_id", "id", *request.query["expand"]}}
    return json_response(answer)


def describe(store: Store, repository: Repository, commit: Commit, *, blobs: bool) -> dict[str, Any]:
    """Describe a repository as it is at a commit; `blobs` adds sizes and hashes of the files."""
    readme = commit.files.get("README.md")
    data = card.front_matter(store.blobs.read(readme.sha256).decode(errors="replace")) if readme else None
    answer: dict[str, Any] = {
        "_id": repository.id,
        "id": repository.id,
        "modelId": repository.id,
        "author": repository.namespace,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repository.created_at,
        "private": repository.private,
        "gated": repository.gated or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": card.tags(data or {}),
        "siblings": [
            {"rfilename": path} | (_blob(file) if blobs else {}) for path, file in commit.files.items()
        ],
        "usedStorage": sum(file.size for file in commit.files.values()),
    }
    if data:
        answer["cardData"] = data
        answer |= {key: data[key] for key in ("library_name", "pipeline_tag", "model-index") if key in data}
    return answer


def _blob(file: File) -> dict[str, Any]:
    blob: dict[str, Any] = {"size": file.size, "blobId": file.oid}
    if file.lfs:
        pointer_size = len(lfs_pointer(file.sha256, file.size))
        blob["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": pointer_size}
    return blob


def _repo_id(request: Request, body: dict[str, Any]) -> str:
    """Read the id from a body that has name and organisation apart; the default is the sender's namespace."""
    if body.get("type") not in (None, "model"):
        raise HubError(HTTPStatus.BAD_REQUEST, f"This Hub has no repositories of type {body['type']}")
    return f"{body.get('organization') or request.sender.name}/{body.get('name')}"


def nameless(store: Store, request: Request) -> Response:
    """`GET /api/models/{name}`: an id without a namespace. The Hub has a few of old; this one has none."""
    raise repository_not_found(request.account)


ROUTES = (
    Route("POST", "/api/repos/create", Access.WRITE, create),
    Route("DELETE", "/api/repos/delete", Access.WRITE, delete),
    Route("PUT", "/api/models/{repo}/settings", Access.WRITE, change_settings),
    Route("GET", "/api/models", Access.ANYONE, search),
    Route("GET", "/api/models/{repo}", Access.ANYONE, info),
    Route("GET", "/api/models/{name}", Access.ANYONE, nameless),
    Route("GET", "/api/models/{repo}/revision/{revision}", Access.ANYONE, info),
)
