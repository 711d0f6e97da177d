"""The routes as seen on the wire, where a client would hide or correct what it gets."""

import hashlib
import json
import socket
from urllib.parse import urlsplit

import pytest

from tests.hub.conftest import Send, commit_body
from tests.hub.server import HubServer
from tests.hub.wire import Account

COMMIT = "/api/models/org/name/commit/main"
README = b"---\nlicense: mit\n---\n"


def test_a_download_says_which_commit_and_content_it_is(hub: HubServer, send: Send) -> None:
    oid = hub.store.commit("org/name", {"a.txt": b"hello\n", "b.safetensors": b"weights"})
    text = send("GET", "/org/name/resolve/main/a.txt", token=None)
    assert (text.status, text.body) == (200, b"hello\n")
    assert text.headers["etag"] == '"ce013625030ba8dba906f756967f9e9ca394464a"'
    assert text.headers["x-repo-commit"] == oid
    assert "x-linked-etag" not in text.headers
    large = send("HEAD", f"/org/name/resolve/{oid}/b.safetensors", token=None)
    assert (large.status, large.body, large.headers["content-length"]) == (200, b"", "7")
    assert large.headers["x-linked-etag"] == f'"{hashlib.sha256(b"weights").hexdigest()}"'
    assert large.headers["x-linked-size"] == "7"


@pytest.mark.parametrize(
    ("wanted", "status", "content", "where"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-100000", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("lines=0-3", 200, b"0123456789", None),
    ],
)
def test_ranges(
    hub: HubServer, send: Send, wanted: str, status: int, content: bytes | None, where: str | None
) -> None:
    hub.store.commit("org/name", {"a.txt": b"0123456789"})
    answer = send("GET", "/org/name/resolve/main/a.txt", headers={"Range": wanted})
    assert answer.status == status
    assert content is None or answer.body == content
    assert answer.headers.get("content-range") == where


def test_what_is_missing_is_named_in_a_header(hub: HubServer, send: Send) -> None:
    head = hub.store.head("org/name")
    codes = {
        path: send("GET", path).headers.get("x-error-code")
        for path in ("/api/models/org/absent", "/org/name/resolve/absent/a", "/org/name/resolve/main/a")
    }
    assert list(codes.values()) == ["RepoNotFound", "RevisionNotFound", "EntryNotFound"]
    assert send("GET", "/org/name/resolve/main/a").headers["x-repo-commit"] == head
    assert send("GET", "/gpt2/resolve/main/a").headers["x-error-code"] == "RepoNotFound"
    assert send("GET", "/no/such/route").status == 404


def test_writing_needs_a_token_that_may(hub: HubServer, send: Send) -> None:
    hub.store.accounts["hf_read"] = Account(name="reader", may_write=False)
    before = hub.store.contents("org/name")
    body = commit_body({"a.txt": b"a"})
    assert send("POST", COMMIT, body, token=None).status == 401
    assert send("POST", COMMIT, body, token="hf_unknown").status == 401
    assert send("POST", COMMIT, body, token="hf_read").status == 403
    assert send("GET", "/api/whoami-v2", token="hf_read").json["auth"]["accessToken"]["role"] == "read"
    assert hub.store.contents("org/name") == before
    assert send("POST", COMMIT, body).status == 200
    assert hub.store.contents("org/name") == before | {"a.txt": b"a"}


def test_a_wrong_token_is_refused_even_where_none_is_needed(send: Send) -> None:
    assert send("GET", "/api/models/org/name", token=None).status == 200
    assert send("GET", "/api/models/org/name", token="hf_unknown").status == 401


def test_preupload_says_how_to_send_a_file_and_what_is_there(hub: HubServer, send: Send) -> None:
    hub.store.commit("org/name", {"a.txt": b"hello\n", "b.bin": b"b"})
    sizes = {"a.txt": 6, "b.bin": 1, "new.json": 5, "large.txt": 11 * 1024 * 1024}
    files = [{"path": path, "size": size, "sample": ""} for path, size in sizes.items()]
    answer = send("POST", "/api/models/org/name/preupload/main", {"files": files}).json["files"]
    assert [[one["path"], one["uploadMode"], one.get("oid")] for one in answer] == [
        ["a.txt", "regular", "ce013625030ba8dba906f756967f9e9ca394464a"],
        ["b.bin", "lfs", hashlib.sha256(b"b").hexdigest()],
        ["new.json", "regular", None],
        ["large.txt", "lfs", None],
    ]


def test_the_repositorys_own_gitattributes_decide(hub: HubServer, send: Send) -> None:
    hub.store.commit("org/name", {".gitattributes": b"*.json filter=lfs\nfolder/* filter=lfs\n"})
    files = [{"path": path, "size": 1, "sample": ""} for path in ("x/a.json", "b.bin", "folder/c")]
    answer = send("POST", "/api/models/org/name/preupload/main", {"files": files}).json["files"]
    assert [one["uploadMode"] for one in answer] == ["lfs", "regular", "lfs"]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 400),
        ([{"key": "file", "value": {"path": "a.txt", "content": ""}}], 400),
        ([{"key": "header", "value": {"summary": ""}}], 400),
        ([{"key": "header", "value": {"summary": "x"}}, {"key": "rename", "value": {"path": "a"}}], 400),
        ([{"key": "header", "value": {"summary": "x"}}, "not an object"], 400),
    ],
)
def test_a_malformed_commit_is_refused(hub: HubServer, send: Send, lines: list[object], status: int) -> None:
    head = hub.store.head("org/name")
    answer = send("POST", COMMIT, b"\n".join(json.dumps(line).encode() for line in lines))
    assert answer.status == status
    assert hub.store.head("org/name") == head


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"key": "lfsFile", "value": {"path": "b.bin", "oid": "ab" * 32, "size": 3}}, 400),
        ({"key": "deletedFile", "value": {"path": "absent.txt"}}, 404),
        ({"key": "deletedFolder", "value": {"path": "absent"}}, 404),
        ({"key": "file", "value": {"path": "../a", "content": ""}}, 422),
        ({"key": "file", "value": {"path": ".git/config", "content": ""}}, 422),
        ({"key": "file", "value": {"path": "b.txt", "content": "not base64!"}}, 400),
        ({"key": "file", "value": {"path": "README.md", "content": "LS0tCmxpY2Vuc2U6IFgKLS0tCg=="}}, 400),
    ],
)
def test_a_commit_with_one_bad_operation_changes_nothing(
    hub: HubServer, send: Send, operation: dict[str, object], status: int
) -> None:
    head = hub.store.head("org/name")
    answer = send("POST", COMMIT, commit_body({"good.txt": b"good"}) + json.dumps(operation).encode())
    assert answer.status == status
    assert hub.store.head("org/name") == head
    assert send("POST", COMMIT, commit_body({"good.txt": b"good"})).status == 200


def test_a_commit_can_demand_its_parent(hub: HubServer, send: Send) -> None:
    first = hub.store.head("org/name")
    second = hub.store.commit("org/name", {"a.txt": b"theirs"})
    stale = send("POST", COMMIT, commit_body({"a.txt": b"ours"}, parent=first))
    assert stale.status == 412
    assert "The branch was updated since you opened this page" in stale.headers["x-error-message"]
    assert hub.store.head("org/name") == second
    assert send("POST", COMMIT, commit_body({"a.txt": b"ours"}, parent=second)).status == 200


def test_a_pull_request_may_start_from_an_older_parent(hub: HubServer, send: Send) -> None:
    first = hub.store.head("org/name")
    hub.store.commit("org/name", {"a.txt": b"theirs"})
    answer = send("POST", f"{COMMIT}?create_pr=1", commit_body({"a.txt": b"ours"}, parent=first)).json
    assert answer["pullRequestUrl"] == f"{hub.url}/org/name/discussions/1"
    details = send("GET", "/api/models/org/name/discussions/1").json
    assert details["filesWithConflicts"] == ["a.txt"]
    assert send("POST", "/api/models/org/name/discussions/1/merge").status == 409
    assert hub.store.contents("org/name")["a.txt"] == b"theirs"


def test_a_merge_keeps_what_main_has_got_meanwhile(hub: HubServer, send: Send) -> None:
    send("POST", f"{COMMIT}?create_pr=1", commit_body({"ours.txt": b"ours"}))
    hub.store.commit("org/name", {"theirs.txt": b"theirs", ".gitattributes": None})
    assert send("POST", "/api/models/org/name/discussions/1/merge").status == 200
    assert hub.store.contents("org/name") == {"ours.txt": b"ours", "theirs.txt": b"theirs"}
    assert send("POST", "/api/models/org/name/discussions/1/merge").status == 400


def test_a_tag_or_a_commit_cannot_be_committed_to(hub: HubServer, send: Send) -> None:
    oid = hub.store.head("org/name")
    send("POST", "/api/models/org/name/tag/main", {"tag": "v1"})
    statuses = [
        send("POST", f"/api/models/org/name/commit/{revision}", commit_body({"a.txt": b"a"})).status
        for revision in ("v1", "refs%2Ftags%2Fv1", oid, "absent")
    ]
    assert statuses == [400, 400, 400, 404]


@pytest.mark.parametrize("tag", ["", "has space", "refs/tags/v1", "a..b", "-v1", "v1.lock"])
def test_an_impossible_tag_is_refused(hub: HubServer, send: Send, tag: str) -> None:
    assert send("POST", "/api/models/org/name/tag/main", {"tag": tag}).status == 400
    assert hub.store.tags("org/name") == {}


def test_paths_info_takes_a_form_and_json(hub: HubServer, send: Send) -> None:
    hub.store.commit("org/name", {"a.txt": b"a", "b/c.txt": b"c"})
    url = "/api/models/org/name/paths-info/main"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    by_form = send("POST", url, b"paths=a.txt&paths=b&paths=absent&expand=false", headers=form).json
    as_json = {"Content-Type": "application/json"}
    by_json = send("POST", url, {"paths": ["a.txt", "b", "absent"], "expand": False}, headers=as_json).json
    assert by_form == by_json
    assert [[one["path"], one["type"]] for one in by_form] == [["a.txt", "file"], ["b", "directory"]]


def test_an_entry_knows_its_last_commit(hub: HubServer, send: Send) -> None:
    first = hub.store.commit("org/name", {"a.txt": b"a", "b/c.txt": b"c", "b/d.txt": b"d"})
    second = hub.store.commit("org/name", {"b/c.txt": b"other"})
    third = hub.store.commit("org/name", {"a.txt": b"other"})
    tree = send("GET", "/api/models/org/name/tree/main?recursive=true&expand=true").json
    last = {one["path"]: one["lastCommit"]["id"] for one in tree if one["path"] != ".gitattributes"}
    assert last == {"a.txt": third, "b": second, "b/c.txt": second, "b/d.txt": first}


def test_an_lfs_upload_needs_its_link_and_its_content(hub: HubServer, send: Send) -> None:
    content = b"weights"
    wanted = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    batch = {"operation": "upload", "objects": [wanted]}
    [answer] = send("POST", "/org/name.git/info/lfs/objects/batch", batch).json["objects"]
    link = answer["actions"]["upload"]["href"].removeprefix(hub.url)
    verify = "/org/name.git/info/lfs/objects/verify"
    assert send("PUT", link.partition("?")[0], content, token=None).status == 403
    assert send("PUT", link, b"other", token=None).status == 400
    assert send("POST", verify, wanted).status == 404
    assert send("PUT", link, content, token=None).status == 200
    assert send("POST", verify, wanted).status == 200
    [known] = send("POST", "/org/name.git/info/lfs/objects/batch", batch).json["objects"]
    assert "actions" not in known


def test_an_id_is_found_whatever_its_case(hub: HubServer, send: Send) -> None:
    assert send("GET", "/api/models/ORG/Name").json["id"] == "org/name"
    again = send("POST", "/api/repos/create", {"name": "NAME", "organization": "Org"})
    assert again.status == 409
    assert again.json["url"] == f"{hub.url}/Org/NAME"


def test_a_chunked_body_is_read(hub: HubServer, send: Send) -> None:
    body = commit_body({"a.txt": b"a"})
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert send("POST", COMMIT, chunks, headers={"Transfer-Encoding": "chunked"}).status == 200
    assert hub.store.contents("org/name")["a.txt"] == b"a"


@pytest.mark.parametrize("encoding", ["whole", "chunked"])
def test_half_a_body_is_no_commit(hub: HubServer, encoding: str) -> None:
    # The client was killed while it sent: what has arrived is valid as far as it goes.
    body = commit_body({"a.txt": b"a", "b.txt": b"b"})
    arrived = body[: body.rindex(b'{"key"')]
    head = hub.store.head("org/name")
    framing = {
        "whole": b"Content-Length: %d\r\n\r\n%s" % (len(body), arrived),
        "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(arrived), arrived),
    }[encoding]
    address = urlsplit(hub.url)
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=10) as connection:
        start = f"POST {COMMIT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hub.token}\r\n"
        connection.sendall(start.encode() + framing)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert hub.store.head("org/name") == head
    assert len(hub.requests) == 0
