"""The real client when things go wrong: what reaches the Hub, and what the client says."""

import signal
import subprocess
from typing import Any

import pytest

from tests.hub.conftest import RunClient, StartClient
from tests.hub.faults import Fault
from tests.hub.server import HubServer

COMMIT = "/api/models/org/name/commit/main"
PUBLISH = """
files = [CommitOperationAdd("a.txt", b"ours"), CommitOperationAdd("b.bin", b"weights")]
head = api.model_info("org/name").sha
print(api.create_commit("org/name", files, commit_message="Ours", parent_commit=head).oid)
"""


def published(hub: HubServer) -> dict[str, bytes]:
    return {path: content for path, content in hub.store.contents("org/name").items() if path[0] != "."}


def test_a_failed_commit_is_not_sent_again(hub: HubServer, run_client: RunClient) -> None:
    hub.faults.add(Fault(method="POST", path=COMMIT, status=500))
    done = run_client(PUBLISH, check=False)
    assert "500 Server Error" in done.errors or "500 Internal Server Error" in done.errors
    assert len(hub.requests.matching("POST", COMMIT)) == 1
    assert published(hub) == {}


def test_a_failed_preupload_is_sent_again(hub: HubServer, run_client: RunClient) -> None:
    fault = hub.faults.add(
        Fault(path=r".*/preupload/main", status=429, headers={"RateLimit": '"api";r=0;t=1'})
    )
    run_client(PUBLISH)
    assert fault.fired == 1
    assert len(hub.requests.matching("POST", r".*/preupload/main")) == 2
    assert len(hub.requests.matching("POST", COMMIT)) == 1
    assert published(hub) == {"a.txt": b"ours", "b.bin": b"weights"}


def test_a_commit_whose_answer_was_lost_is_found_when_tried_again(
    hub: HubServer, run_client: RunClient
) -> None:
    hub.faults.add(Fault(method="POST", path=COMMIT, drop="after"))
    assert run_client(PUBLISH, check=False).code != 0
    head = hub.store.head("org/name")
    assert published(hub) == {"a.txt": b"ours", "b.bin": b"weights"}
    assert run_client(PUBLISH).output == head
    assert len(hub.requests.matching("POST", COMMIT)) == 1


def test_a_commit_that_lost_the_race_leaves_the_other_one_alone(
    hub: HubServer, run_client: RunClient
) -> None:
    hub.faults.add(
        Fault(
            method="POST", path=COMMIT, meanwhile=lambda store: store.commit("org/name", {"c.txt": b"theirs"})
        )
    )
    done = run_client(PUBLISH, check=False)
    assert "The branch was updated since you opened this page" in done.errors
    assert published(hub) == {"c.txt": b"theirs"}


@pytest.mark.parametrize("what", [{"truncate": 3}, {"status": 503}, {"drop": "before"}])
def test_a_download_never_gives_half_a_file(
    hub: HubServer, run_client: RunClient, what: dict[str, Any]
) -> None:
    hub.store.commit("org/name", {"a.txt": b"0123456789"})
    fault = hub.faults.add(Fault(method="GET", path=r".*/resolve/.*/a\.txt", **what))
    code = 'print(open(hf_hub_download("org/name", "a.txt")).read())'
    assert run_client(code, check=False).output in ("", "0123456789")
    assert fault.fired == 1
    assert run_client(code).output == "0123456789"


def test_killed_at_any_request_a_client_leaves_all_or_nothing(
    hub: HubServer, run_client: RunClient, start_client: StartClient
) -> None:
    def fresh_publish(number: int) -> tuple[str, dict[str, bytes]]:
        """Empty the repository; return code with a content that was never uploaded, and what it publishes."""
        hub.store.delete("org/name")
        hub.store.create("org/name")
        hub.requests.clear()
        hub.faults.clear()
        weights = f"weights {number}"
        return PUBLISH.replace("weights", weights), {"a.txt": b"ours", "b.bin": weights.encode()}

    for number in (-2, -1):  # the first fills the client's own cache, the second is the one to count
        run_client(fresh_publish(number)[0])
    requests = [one.path for one in hub.requests]
    assert len(requests) >= 6
    moments = [(skip, "before") for skip in range(len(requests))] + [(requests.index(COMMIT), "after")]

    for number, (skip, drop) in enumerate(moments):
        code, whole = fresh_publish(number)
        killed: list[subprocess.Popen[str]] = []
        when = {"before": "meanwhile", "after": "afterwards"}[drop]
        rule: dict[str, Any] = {"skip": skip, "drop": drop, when: lambda _: killed[0].kill()}  # noqa: B023
        fault = hub.faults.add(Fault(**rule))
        with start_client(code) as process:
            killed.append(process)
        assert fault.fired == 1
        assert process.returncode == -signal.SIGKILL
        assert published(hub) == (whole if drop == "after" else {})


def test_a_ci_job_publishes_without_a_stored_token(hub: HubServer, run_client: RunClient) -> None:
    hub.store.create("org/other")
    hub.store.trusted["identity-token"] = "org/name"
    identity = {"HF_TOKEN": "", "HF_OIDC_ID_TOKEN": "identity-token", "HF_OIDC_RESOURCE": "org/name"}
    run_client(PUBLISH, **identity)
    assert published(hub) == {"a.txt": b"ours", "b.bin": b"weights"}
    elsewhere = run_client(PUBLISH.replace("org/name", "org/other"), check=False, **identity)
    assert "403 Forbidden" in elsewhere.errors
    distrusted = run_client(PUBLISH, check=False, **(identity | {"HF_OIDC_ID_TOKEN": "somebody-else"}))
    assert "401" in distrusted.errors
