"""Branches and tags."""

from tests.hub.repository import BRANCHES, PULL_REQUESTS, TAGS, Repository
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import Request, Response, json_response


def listing(store: Store, request: Request) -> Response:
    """`GET .../refs[?include_prs=1]`: every name and the commit it points at."""
    repository = store.visible_repository(request["repo"], request.account)
    answer = {"branches": _refs(repository, BRANCHES), "tags": _refs(repository, TAGS), "converts": []}
    if request.flag("include_prs"):
        answer["pullRequests"] = _refs(repository, PULL_REQUESTS)
    return json_response(answer)


def create_tag(store: Store, request: Request) -> Response:
    """`POST .../tag/{revision}`: name a commit. 409 if the tag exists: a tag does not move."""
    repository = store.visible_repository(request["repo"], request.account)
    commit = repository.resolve(request["revision"])
    repository.create_ref(f"{TAGS}{request.json().get('tag', '')}", commit)
    return json_response({})


def delete_tag(store: Store, request: Request) -> Response:
    """`DELETE .../tag/{tag}`."""
    store.visible_repository(request["repo"], request.account).delete_ref(TAGS + request["tag"])
    return json_response({})


def create_branch(store: Store, request: Request) -> Response:
    """`POST .../branch/{branch}`: a new branch from `startingPoint`, by default the head of `main`."""
    repository = store.visible_repository(request["repo"], request.account)
    commit = repository.resolve(str(request.json().get("startingPoint") or "main"))
    repository.create_ref(BRANCHES + request["branch"], commit)
    return json_response({})


def delete_branch(store: Store, request: Request) -> Response:
    """`DELETE .../branch/{branch}`: any but `main`."""
    store.visible_repository(request["repo"], request.account).delete_ref(BRANCHES + request["branch"])
    return json_response({})


def _refs(repository: Repository, kind: str) -> list[dict[str, str]]:
    return [
        {"name": ref.removeprefix(kind), "ref": ref, "targetCommit": oid}
        for ref, oid in sorted(repository.refs.items())
        if ref.startswith(kind)
    ]


ROUTES = (
    Route("GET", "/api/models/{repo}/refs", Access.ANYONE, listing),
    Route("POST", "/api/models/{repo}/tag/{revision}", Access.WRITE, create_tag),
    Route("DELETE", "/api/models/{repo}/tag/{tag}", Access.WRITE, delete_tag),
    Route("POST", "/api/models/{repo}/branch/{branch}", Access.WRITE, create_branch),
    Route("DELETE", "/api/models/{repo}/branch/{branch}", Access.WRITE, delete_branch),
)
