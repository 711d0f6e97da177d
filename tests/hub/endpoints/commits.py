"""Publishing: ask how to send each file, then commit them all at once."""

import base64
import binascii
import json
from http import HTTPStatus
from typing import Any

from tests.hub import card
from tests.hub.objects import Commit, File, lfs_file, regular_file
from tests.hub.repository import MAIN, Repository
from tests.hub.route import Access, Route
from tests.hub.store import Store, is_lfs
from tests.hub.wire import HubError, Request, Response, entry_not_found, json_response

_STALE_PARENT = "The branch was updated since you opened this page. Please refresh and try again."


def preupload(store: Store, request: Request) -> Response:
    """`POST .../preupload/{revision}`: for each file, how to send it and what the revision has there already.

    `oid` is the git blob of a regular file and the sha256 of an LFS file. The client compares it with its own
    content and leaves unchanged files out of the commit. Writes nothing.
    """
    commit = store.visible_repository(request["repo"], request.account).resolve(request["revision"])
    attributes = _attributes(store, commit)
    answer = []
    for file in request.json().get("files", []):
        path, present = file["path"], commit.files.get(file["path"])
        mode = "lfs" if is_lfs(path, int(file["size"]), attributes) else "regular"
        known = {} if present is None else {"oid": present.etag}
        answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False} | known)
    return json_response({"files": answer})


def commit(store: Store, request: Request) -> Response:
    """`POST .../commit/{revision}[?create_pr=1]`: one commit from lines of JSON; all of it or nothing.

    The first line is the header, with an optional `parentCommit`: if the branch has another head by now, the
    answer is
    412. With `create_pr` the commit goes to a new pull request instead, based on `parentCommit` or on the
       head.
    """
    repository = store.visible_repository(request["repo"], request.account)
    header, operations = _parse(request.body)
    ref = repository.branch_ref(request["revision"])
    head = repository.resolve(ref)
    expected = header.get("parentCommit")
    create_pr = request.flag("create_pr")
    if create_pr and expected is not None:
        head = repository.resolve(expected)
    elif expected not in (None, head.oid):
        raise HubError(HTTPStatus.PRECONDITION_FAILED, _STALE_PARENT)
    files = _apply(store, head, operations)

    author = request.sender.name
    summary, description = header["summary"], str(header.get("description") or "")
    if create_pr:
        ref = repository.open_discussion(summary, description, author, base=head).ref
    made = repository.add_commit(ref, files, title=summary, description=description, author=author)
    _note_in_pull_request(repository, ref, made)

    url = f"{request.base_url}/{repository.id}"
    pull_request = {"pullRequestUrl": f"{url}/discussions/{ref.rpartition('/')[2]}"} if create_pr else {}
    answer = {
        "success": True,
        "commitOid": made.oid,
        "commitUrl": f"{url}/commit/{made.oid}",
        "hookOutput": "",
    }
    return json_response(answer | pull_request)


def history(store: Store, request: Request) -> Response:
    """`GET .../commits/{revision}`: commits, newest first."""
    repository = store.visible_repository(request["repo"], request.account)
    return json_response(
        [
            {
                "id": one.oid,
                "title": one.title,
                "message": one.description,
                "authors": [{"user": one.author}],
                "date": one.date,
            }
            for one in repository.history(repository.resolve(request["revision"]))
        ]
    )


def _parse(body: bytes) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """Split a commit's lines into its header and its operations."""
    try:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        pairs = [(line["key"], line["value"]) for line in lines]
    except (ValueError, TypeError, KeyError):
        raise HubError(HTTPStatus.BAD_REQUEST, "the commit is not lines of JSON with key and value") from None
    if not pairs or pairs[0][0] != "header" or not pairs[0][1].get("summary"):
        raise HubError(HTTPStatus.BAD_REQUEST, "the first line of a commit is a header with a summary")
    return pairs[0][1], pairs[1:]


def _apply(store: Store, head: Commit, operations: list[tuple[str, dict[str, Any]]]) -> dict[str, File]:
    """Return the files of `head` after the operations, each of which is checked first."""
    files = dict(head.files)
    for key, value in operations:
        path = _checked_path(value.get("path"))
        match key:
            case "file":
                files[path] = _regular(store, path, value)
            case "lfsFile":
                files[path] = _large(store, value)
            case "deletedFile":
                if files.pop(path, None) is None:
                    raise entry_not_found(f"A file with this name doesn't exist: {path}", head.oid)
            case "deletedFolder":
                inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
                if not inside:
                    raise entry_not_found(f"A folder with this name doesn't exist: {path}", head.oid)
                for name in inside:
                    del files[name]
            case _:
                raise HubError(HTTPStatus.BAD_REQUEST, f"unknown operation in a commit: {key}")
    return files


def _regular(store: Store, path: str, value: dict[str, Any]) -> File:
    try:
        content = base64.b64decode(value["content"], validate=True)
    except (KeyError, binascii.Error):
        raise HubError(HTTPStatus.BAD_REQUEST, f"the content of {path} is not base64") from None
    if path == "README.md" and (errors := card.problems(content.decode(errors="replace"))[0]):
        raise HubError(HTTPStatus.BAD_REQUEST, f"Invalid metadata in README.md: {'; '.join(errors)}")
    store.blobs.add(content)
    return regular_file(content)


def _large(store: Store, value: dict[str, Any]) -> File:
    """Describe a large file, which must have been uploaded; take it over from the Xet store if need be."""
    sha256 = str(value.get("oid"))
    xet_hash = store.xet.hash_of(sha256)
    if sha256 not in store.blobs and xet_hash is not None:
        content = store.xet.read(sha256, int(value["size"]))
        if store.blobs.add(content) != sha256:
            raise HubError(
                HTTPStatus.BAD_REQUEST, f"the Xet content of {value.get('path')} has another sha256"
            )
    if sha256 not in store.blobs:
        raise HubError(
            HTTPStatus.BAD_REQUEST, f"{value.get('path')} points to a content that was not uploaded"
        )
    size = store.blobs.size(sha256)
    if value.get("size") not in (None, size):
        raise HubError(HTTPStatus.BAD_REQUEST, f"{value.get('path')} has {size} bytes, not {value['size']}")
    return lfs_file(sha256, size, xet_hash)


def _checked_path(path: object) -> str:
    if not isinstance(path, str) or not path or path.startswith("/") or "\\" in path:
        raise HubError(HTTPStatus.UNPROCESSABLE_ENTITY, f"Invalid path: {path!r}")
    if {"", ".", "..", ".git"} & set(path.removesuffix("/").split("/")):
        raise HubError(HTTPStatus.UNPROCESSABLE_ENTITY, f"Invalid path: {path!r}")
    return path


def _attributes(store: Store, head: Commit) -> str:
    file = head.files.get(".gitattributes")
    return "" if file is None else store.blobs.read(file.sha256).decode(errors="replace")


def _note_in_pull_request(repository: Repository, ref: str, made: Commit) -> None:
    for discussion in repository.discussions:
        if ref != MAIN and discussion.is_pull_request and discussion.ref == ref:
            discussion.record_commit(made)


ROUTES = (
    Route("POST", "/api/models/{repo}/preupload/{revision}", Access.TOKEN, preupload),
    Route("POST", "/api/models/{repo}/commit/{revision}", Access.WRITE, commit),
    Route("GET", "/api/models/{repo}/commits/{revision}", Access.ANYONE, history),
)
