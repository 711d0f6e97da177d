"""Discussions and pull requests."""

from http import HTTPStatus
from typing import Any

from tests.hub.discussion import Discussion, Event, conflicts, diff, merged
from tests.hub.objects import Commit
from tests.hub.repository import MAIN, Repository, now
from tests.hub.route import Access, Route
from tests.hub.store import Store
from tests.hub.wire import HubError, Request, Response, json_response


def listing(store: Store, request: Request) -> Response:
    """`GET .../discussions`: newest first, by `type`, `status` and `author`; all on one page."""
    repository = store.visible_repository(request["repo"], request.account)
    kind, status, author = (request.query.get(name, ["all"])[-1] for name in ("type", "status", "author"))
    found = [
        _summary(repository, one)
        for one in reversed(repository.discussions)
        if kind in ("all", "pull_request" if one.is_pull_request else "discussion")
        and status in ("all", one.status)
        and author in ("all", one.author)
    ]
    return json_response({"discussions": found, "count": len(found), "start": 0})


def create(store: Store, request: Request) -> Response:
    """`POST .../discussions`: a discussion, or with `pullRequest` an empty draft of a pull request."""
    repository = store.visible_repository(request["repo"], request.account)
    body = request.json()
    discussion = repository.open_discussion(
        str(body["title"]),
        str(body.get("description") or ""),
        request.sender.name,
        base=repository.resolve(MAIN) if body.get("pullRequest") else None,
        draft=bool(body.get("pullRequest")),
    )
    return json_response(_summary(repository, discussion))


def details(store: Store, request: Request) -> Response:
    """`GET .../discussions/{number}[?diff=1]`: with everything that happened."""
    repository = store.visible_repository(request["repo"], request.account)
    discussion = repository.discussion(request["number"])
    answer = _summary(repository, discussion) | {"events": discussion.events, "filesWithConflicts": []}
    if discussion.is_pull_request:
        base, ours, theirs = _three_sides(repository, discussion)
        answer["changes"] = {"base": MAIN, "mergeCommitId": discussion.merge_commit}
        if discussion.status != "merged":
            answer["filesWithConflicts"] = conflicts(base, ours, theirs)
        if request.flag("diff"):
            answer["diff"] = diff(base, theirs, lambda file: store.blobs.read(file.sha256))
    return json_response(answer)


def comment(store: Store, request: Request) -> Response:
    """`POST .../discussions/{number}/comment`."""
    event = _discussion(store, request).comment(str(request.json()["comment"]), request.sender.name, now())
    return json_response({"newMessage": event})


def edit_comment(store: Store, request: Request) -> Response:
    """`POST .../discussions/{number}/comment/{comment}/edit`."""
    discussion = _discussion(store, request)
    event: Event | None = next((one for one in discussion.events if one["id"] == request["comment"]), None)
    if event is None or event["type"] != "comment":
        raise HubError(HTTPStatus.NOT_FOUND, f"There is no comment {request['comment']}")
    discussion.edit_comment(event, str(request.json()["content"]), now())
    return json_response({"updatedComment": event})


def rename(store: Store, request: Request) -> Response:
    """`POST .../discussions/{number}/title`."""
    event = _discussion(store, request).rename(str(request.json()["title"]), request.sender.name, now())
    return json_response({"newTitle": event})


def change_status(store: Store, request: Request) -> Response:
    """`POST .../discussions/{number}/status`: open or closed."""
    status = str(request.json().get("status"))
    discussion = _discussion(store, request)
    if status not in ("open", "closed") or discussion.status == "merged":
        raise HubError(HTTPStatus.BAD_REQUEST, f"{discussion.status} cannot become {status}")
    discussion.change_status(status, request.sender.name, now())
    return json_response({"newStatus": discussion.events[-1]})


def merge(store: Store, request: Request) -> Response:
    """`POST .../discussions/{number}/merge`: put the pull request's changes on `main` as one commit.

    It must be open: one that was made as a draft is opened first, as the client's own tests do. That the Hub
    answers 409 where files conflict is a choice made here.
    """
    repository = store.visible_repository(request["repo"], request.account)
    discussion = repository.discussion(request["number"])
    if not discussion.is_pull_request or discussion.status != "open":
        raise HubError(HTTPStatus.BAD_REQUEST, "Only an open pull request can be merged")
    base, ours, theirs = _three_sides(repository, discussion)
    if paths := conflicts(base, ours, theirs):
        raise HubError(HTTPStatus.CONFLICT, f"This pull request has conflicts in {', '.join(paths)}")
    author = request.sender.name
    made = repository.add_commit(
        MAIN, merged(base, ours, theirs), title=f"{discussion.title} (#{discussion.num})", author=author
    )
    discussion.merge_commit = made.oid
    if text := request.json().get("comment"):
        discussion.comment(str(text), author, now())
    discussion.change_status("merged", author, now())
    return json_response({})


def _discussion(store: Store, request: Request) -> Discussion:
    return store.visible_repository(request["repo"], request.account).discussion(request["number"])


def _three_sides(repository: Repository, discussion: Discussion) -> tuple[Commit, Commit, Commit]:
    """Return where the pull request started, the head of `main`, and the head of the pull request."""
    return (
        repository.commits[str(discussion.base)],
        repository.resolve(MAIN),
        repository.resolve(discussion.ref),
    )


def _summary(repository: Repository, discussion: Discussion) -> dict[str, Any]:
    return {
        "num": discussion.num,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": discussion.created_at,
        "status": discussion.status,
        "isPullRequest": discussion.is_pull_request,
        "repo": {"name": repository.id, "type": "model"},
    }


ROUTES = (
    Route("GET", "/api/models/{repo}/discussions", Access.ANYONE, listing),
    Route("POST", "/api/models/{repo}/discussions", Access.WRITE, create),
    Route("GET", "/api/models/{repo}/discussions/{number}", Access.ANYONE, details),
    Route("POST", "/api/models/{repo}/discussions/{number}/comment", Access.WRITE, comment),
    Route(
        "POST", "/api/models/{repo}/discussions/{number}/comment/{comment}/edit", Access.WRITE, edit_comment
    ),
    Route("POST", "/api/models/{repo}/discussions/{number}/title", Access.WRITE, rename),
    Route("POST", "/api/models/{repo}/discussions/{number}/status", Access.WRITE, change_status),
    Route("POST", "/api/models/{repo}/discussions/{number}/merge", Access.WRITE, merge),
)
