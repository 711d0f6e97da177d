"""What is in a commit: listings of folders, and facts about given paths."""

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from tests.hub.objects import Commit, File, lfs_pointer, tree_oid
from tests.hub.repository import Repository
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response, entry_not_found, json_response


def listing(store: Store, request: Request) -> Response:
    """`GET .../tree/{revision}[/{path}]`: the entries of a folder; with `recursive`, all below it."""
    repository = store.visible_repository(request["repo"], request.account)
    commit = repository.resolve(request["revision"])
    folder = request.variables.get("path", "").strip("/")
    prefix = f"{folder}/" if folder else ""
    if folder and not any(path.startswith(prefix) for path in commit.files):
        raise entry_not_found(f"{folder} does not exist on {request['revision']}", commit.oid)
    paths = [path for path in _all_paths(commit) if path.startswith(prefix)]
    if not request.flag("recursive"):
        paths = [path for path in paths if "/" not in path.removeprefix(prefix)]
    return json_response([_entry(repository, commit, path, request.flag("expand")) for path in paths])


def paths_info(store: Store, request: Request) -> Response:
    """`POST .../paths-info/{revision}`: the entries at these paths; those that are not there are left out.

    The Python client sends a form, others send JSON. Writes nothing.
    """
    repository = store.visible_repository(request["repo"], request.account)
    commit = repository.resolve(request["revision"])
    form = _form(request)
    there = _all_paths(commit)
    wanted = [path.rstrip("/") for path in form.get("paths", [])]
    expand = form.get("expand", ["false"])[-1].lower() in {"1", "true"}
    return json_response([_entry(repository, commit, path, expand) for path in wanted if path in there])


def _form(request: Request) -> dict[str, list[str]]:
    if "json" not in request.headers.get("content-type", ""):
        return parse_qs(request.body.decode())
    try:
        return {key: [str(one) for one in (value if isinstance(value, list) else [value])]
                for key, value in json.loads(request.body).items()}  # fmt: skip
    except (ValueError, AttributeError):
        raise HubError(HTTPStatus.BAD_REQUEST, "the body is not a JSON object") from None


def _all_paths(commit: Commit) -> list[str]:
    """Return files and folders, each folder before what is in it."""
    folders = {
        "/".join(segments[:depth])
        for segments in (path.split("/") for path in commit.files)
        for depth in range(1, len(segments))
    }
    return sorted({*commit.files, *folders})


def _entry(repository: Repository, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    file = commit.files.get(path)
    if file is None:
        inside = {
            name.removeprefix(f"{path}/"): one
            for name, one in commit.files.items()
            if name.startswith(f"{path}/")
        }
        entry: dict[str, Any] = {"type": "directory", "path": path, "oid": tree_oid(inside), "size": 0}
    else:
        entry = {"type": "file", "path": path, "oid": file.oid, "size": file.size} | _large(file)
    if expand:
        last = _last_change(repository, commit, path)
        entry["lastCommit"] = {"id": last.oid, "title": last.title, "date": last.date}
    return entry


def _large(file: File) -> dict[str, Any]:
    """Return what is said of an LFS file besides: here `oid` is the sha256."""
    if not file.lfs:
        return {}
    pointer_size = len(lfs_pointer(file.sha256, file.size))
    large: dict[str, Any] = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": pointer_size}}
    return large | ({"xetHash": file.xet_hash} if file.xet_hash else {})


def _last_change(repository: Repository, commit: Commit, path: str) -> Commit:
    """Return the newest commit in whose history `path` got what `commit` has there."""

    def at(one: Commit) -> dict[str, File]:
        return {name: file for name, file in one.files.items() if name == path or name.startswith(f"{path}/")}

    last = commit
    for one in repository.history(commit):
        if at(one) != at(commit):
            break
        last = one
    return last


ROUTES = (
    Route("GET", "/api/models/{repo}/tree/{revision}", Access.ANYONE, listing),
    Route("GET", "/api/models/{repo}/tree/{revision}/{path}", Access.ANYONE, listing),
    Route("POST", "/api/models/{repo}/paths-info/{revision}", Access.ANYONE, paths_info),
)
