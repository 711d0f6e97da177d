import time
from http.client import IncompleteRead, RemoteDisconnected

import pytest

from tests.hub.conftest import Send, commit_body
from tests.hub.faults import Fault
from tests.hub.server import HubServer

COMMIT = "/api/models/org/name/commit/main"
BODY = commit_body({"a.txt": b"ours"})


def is_published(hub: HubServer) -> bool:
    return "a.txt" in hub.store.contents("org/name")


def test_without_faults_nothing_goes_wrong(hub: HubServer, send: Send) -> None:
    assert send("POST", COMMIT, BODY).status == 200
    assert is_published(hub)


def test_a_status_instead_of_an_answer(hub: HubServer, send: Send) -> None:
    fault = hub.faults.add(
        Fault(method="POST", path=r"/api/models/.*/commit/.*", status=429, headers={"Retry-After": "7"})
    )
    answer = send("POST", COMMIT, BODY)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert answer.json == {"error": "Injected by the test"}
    assert not is_published(hub)
    assert send("POST", COMMIT, BODY).status == 200
    assert fault.fired == 1


def test_a_fault_hits_only_what_it_matches(hub: HubServer, send: Send) -> None:
    fault = hub.faults.add(Fault(method="POST", path=r"/api/models/.*", status=500, times=None))
    assert send("GET", "/api/models/org/name").status == 200
    assert send("POST", "/api/validate-yaml", {"content": ""}).status == 200
    assert [send("POST", COMMIT, BODY).status for _ in range(3)] == [500, 500, 500]
    assert fault.fired == 3
    hub.faults.clear()
    assert send("POST", COMMIT, BODY).status == 200


def test_a_fault_can_let_some_pass_first(hub: HubServer, send: Send) -> None:
    hub.faults.add(Fault(path="/api/whoami-v2", skip=2, times=1, status=503))
    assert [send("GET", "/api/whoami-v2").status for _ in range(4)] == [200, 200, 503, 200]


def test_a_used_up_fault_gives_way_to_the_next(hub: HubServer, send: Send) -> None:
    hub.faults.add(Fault(status=500))
    hub.faults.add(Fault(status=502))
    assert [send("GET", "/api/whoami-v2").status for _ in range(3)] == [500, 502, 200]


def test_a_delay(hub: HubServer, send: Send) -> None:
    hub.faults.add(Fault(delay=0.3))
    started = time.monotonic()
    assert send("GET", "/api/whoami-v2").status == 200
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(("drop", "published"), [("before", False), ("after", True)])
def test_a_dropped_connection(hub: HubServer, send: Send, drop: str, published: bool) -> None:
    hub.faults.add(Fault(path=r".*/commit/.*", drop="before" if drop == "before" else "after"))
    with pytest.raises(RemoteDisconnected):
        send("POST", COMMIT, BODY)
    assert is_published(hub) is published
    [logged] = hub.requests.matching("POST", ".*/commit/.*")
    assert (logged.status, logged.handled) == (None, published)


def test_a_truncated_body(hub: HubServer, send: Send) -> None:
    hub.store.commit("org/name", {"a.txt": b"0123456789"})
    hub.faults.add(Fault(path=r".*/resolve/.*", truncate=4))
    with pytest.raises(IncompleteRead) as caught:
        send("GET", "/org/name/resolve/main/a.txt")
    assert (caught.value.partial, caught.value.expected) == (b"0123", 6)
    assert send("GET", "/org/name/resolve/main/a.txt").body == b"0123456789"


def test_somebody_else_commits_first(hub: HubServer, send: Send) -> None:
    hub.faults.add(
        Fault(
            path=r".*/commit/.*", meanwhile=lambda store: store.commit("org/name", {"theirs.txt": b"theirs"})
        )
    )
    body = commit_body({"a.txt": b"ours"}, parent=hub.store.head("org/name"))
    assert send("POST", COMMIT, body).status == 412
    assert "theirs.txt" in hub.store.contents("org/name")
    assert not is_published(hub)


def test_something_happens_after_the_request_was_handled(hub: HubServer, send: Send) -> None:
    seen: list[bool] = []
    hub.faults.add(Fault(path=r".*/commit/.*", afterwards=lambda _: seen.append(is_published(hub))))
    send("POST", COMMIT, BODY)
    assert seen == [True]


def test_the_log_knows_what_was_asked_and_what_writes(hub: HubServer, send: Send) -> None:
    send("GET", "/api/models/org/name?blobs=1", token=None)
    send("POST", "/api/validate-yaml", {"content": ""})
    send("POST", "/api/models/org/name/preupload/main", {"files": []})
    assert hub.requests.writes() == []
    send("POST", COMMIT, BODY)
    send("POST", COMMIT, BODY, token=None)
    send("GET", "/api/models/org/name/xet-write-token/main")
    assert [str(one) for one in hub.requests] == [
        "GET /api/models/org/name?blobs=1 -> 200",
        "POST /api/validate-yaml -> 200",
        "POST /api/models/org/name/preupload/main -> 200",
        f"POST {COMMIT} -> 200",
        f"POST {COMMIT} -> 401",
        "GET /api/models/org/name/xet-write-token/main -> 200",
    ]
    assert [one.account for one in hub.requests.writes()] == ["tester", None, "tester"]
    assert len(hub.requests.matching("GET", r"/api/models/org/name")) == 1
    hub.requests.clear()
    assert len(hub.requests) == 0
