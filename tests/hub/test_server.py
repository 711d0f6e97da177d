"""The Hub as a thread and as a process, and what is left of it after its end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.hub.conftest import commit_body
from tests.hub.faults import Fault
from tests.hub.server import DEFAULT_TOKEN, HubServer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "hub" / "__main__.py"


@contextmanager
def hub_process(*command: str, cwd: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    with subprocess.Popen([sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.terminate()


def post(url: str, path: str, body: bytes) -> int:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", path, body, {"Authorization": f"Bearer {DEFAULT_TOKEN}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_state_is_kept_in_its_folder(tmp_path: Path) -> None:
    with HubServer(folder=tmp_path) as hub:
        hub.store.create("org/name", private=True)
        hub.store.commit("org/name", {"a.txt": b"a", "b.bin": b"b"})
        repository = hub.store.repository("org/name")
        base = repository.resolve("main")
        repository.open_discussion("A title", "A text", "somebody", base=base)
        repository.create_ref("refs/tags/v1", base)
        hub.store.save()
    with HubServer(folder=tmp_path) as later:
        assert later.store.repository("org/name") == repository
        assert later.store.contents("org/name", "v1")["a.txt"] == b"a"
        assert later.store.tags("org/name") == {"v1": base.oid}


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.store.create("org/name")
    with HubServer() as later:
        assert later.store.repositories() == []


def test_a_state_file_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text('{"format": 99, "repositories": []}')
    with pytest.raises(ValueError, match="has format 99"):
        HubServer(folder=tmp_path)


def test_a_killed_hub_goes_on_where_it_was(tmp_path: Path) -> None:
    options = ("--data", str(tmp_path / "data"))
    with hub_process(str(SCRIPT), *options, cwd=tmp_path) as (url, process):
        assert post(url, "/api/repos/create", b'{"name": "name", "organization": "org"}') == 200
        assert post(url, "/api/models/org/name/commit/main", commit_body({"a.txt": b"a"})) == 200
        process.send_signal(signal.SIGKILL)
    with HubServer(folder=tmp_path / "data") as hub:
        assert hub.store.contents("org/name")["a.txt"] == b"a"


def test_it_runs_as_a_module_and_ends_when_told(tmp_path: Path) -> None:
    with hub_process("-m", "tests.hub", cwd=ROOT) as (url, process):
        assert post(url, "/api/validate-yaml", b'{"content": "# no metadata"}') == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0


def test_a_defect_of_the_double_is_not_passed_over() -> None:
    def break_the_state(hub: HubServer) -> int:
        with hub:
            hub.store.create("org/name")
            hub.store.repository("org/name").refs["refs/heads/main"] = "absent"
            return post(hub.url, "/api/models/org/name/preupload/main", b'{"files": []}')

    with pytest.raises(RuntimeError, match=r"crashed(.|\n)*KeyError: 'absent'"):
        break_the_state(HubServer())


def test_a_defect_of_a_hook_is_not_passed_over() -> None:
    def break_in_a_hook(hub: HubServer) -> int:
        with hub:
            hub.faults.add(Fault(meanwhile=lambda store: store.head("org/absent")))
            return post(hub.url, "/api/validate-yaml", b"{}")

    with pytest.raises(RuntimeError, match=r"crashed(.|\n)*KeyError: 'org/absent'"):
        break_in_a_hook(HubServer())


def test_the_environment_keeps_a_client_away_from_its_users_files(hub: HubServer, tmp_path: Path) -> None:
    settings = hub.environment(tmp_path / "home")
    assert settings["HF_ENDPOINT"] == hub.url
    done = subprocess.run(
        [sys.executable, "-c", "import huggingface_hub.constants as c; print(*vars(c).values(), sep='\\n')"],
        env=os.environ | {"HOME": str(tmp_path / "user"), "HF_HUB_CACHE": "/elsewhere"} | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = set(done.stdout.splitlines())
    assert str(tmp_path / "home" / "hub") in lines
    # The default home is computed whatever HF_HOME says; nothing else may point there.
    assert {line for line in lines if line.startswith((str(tmp_path / "user"), "/elsewhere"))} <= {
        str(tmp_path / "user" / ".cache")
    }
