"""`zoo.hub` against a Hub: base models at a commit, and errors that say what to do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hub.faults import Fault
from tests.hub.server import HubServer
from zoo import hub as client
from zoo.errors import BaseMissingError, HubError, NotFoundError, RefusedError
from zoo.hub import remote

BASE = "org/base"
FILES: dict[str, bytes | None] = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"x",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"import os",
}


@pytest.fixture
def base(hub: HubServer) -> str:
    hub.store.create(BASE)
    return hub.store.commit(BASE, FILES)


def test_a_base_is_pinned_to_its_commit_and_brings_neither_code_nor_pickles(
    hub: HubServer, base: str
) -> None:
    commit, folder = client.download_base(BASE, "")
    assert commit == base
    assert type(commit) is str
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors",
    }  # fmt: skip
    hub.store.commit(BASE, {"config.json": b'{"new": 1}'})
    assert client.download_base(BASE, base)[1] == folder
    assert client.download_base(BASE, "main")[0] == hub.store.head(BASE)


def test_a_cached_base_is_used_when_nobody_answers(
    hub: HubServer, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = client.download_base(BASE, "main")
    hub.faults.add(Fault(drop="before", times=None))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert client.download_base(BASE, "main") == first
    assert client.download_base(BASE, base) == first
    with pytest.raises(BaseMissingError):
        client.download_base("org/never-seen", "")


@pytest.mark.parametrize(("name", "revision"), [("org/none", ""), (BASE, "no-such-branch"), (BASE, "f" * 40)])
def test_what_is_not_there_is_not_found(hub: HubServer, base: str, name: str, revision: str) -> None:
    with pytest.raises(NotFoundError) as missing:
        client.download_base(name, revision)
    assert name in missing.value.message
    assert missing.value.exit_code == 2


def test_a_base_without_access_says_how_to_log_in(
    hub: HubServer, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(BaseMissingError) as missing:
        client.download_base("org/private", "")
    assert "hf auth login" in missing.value.hint


def test_a_base_that_is_no_model_is_said(hub: HubServer) -> None:
    hub.store.create("org/empty")
    hub.store.commit("org/empty", {"tokenizer.json": b"{}"})
    with pytest.raises(BaseMissingError, match=r"config\.json"):
        client.download_base("org/empty", "")


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (401, HubError, "ZH007"),
        (403, HubError, "ZH007"),
        (404, NotFoundError, ""),
        (408, client.UnavailableError, "ZH008"),
        (412, HubError, "ZH003"),
        (429, client.UnavailableError, "ZH008"),
        (500, client.UnavailableError, "ZH008"),
        (504, client.UnavailableError, "ZH008"),
        (413, HubError, "ZH016"),
    ],
)
def test_every_status_is_said_in_a_sentence(
    hub: HubServer, base: str, status: int, error: type[HubError], code: str
) -> None:
    hub.faults.add(Fault(method="POST", path=r".*/tag/.*", status=status, message="because", times=None))
    with pytest.raises(error) as said:
        client.create_tag(BASE, "v1", base)
    assert said.value.code == code
    assert type(said.value) is error
    assert said.value.hint
    assert "\n" not in said.value.message


def test_a_card_is_rejected_with_the_hubs_reason(hub: HubServer) -> None:
    with pytest.raises(RefusedError, match="license") as refused:
        client.check_card("---\nlicense: my-own\n---\nText")
    assert refused.value.code == "ZH005"
    client.check_card("---\nlicense: mit\n---\nText")


def test_a_hub_that_is_not_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(client.UnavailableError) as said:
        client.read_remote("org/name")
    assert "HF_ENDPOINT" in said.value.hint


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (OSError(28, "No space left on device"), OSError),
        (OSError("Consistency check failed"), client.UnavailableError),
        (ConnectionError("xet"), client.UnavailableError),
        (TypeError("a bug"), TypeError),
    ],
)
def test_errors_of_this_machine_are_not_the_hubs(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, raised: Exception, error: type[Exception]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise raised

    stub: Callable[[], Any] = lambda: type("Api", (), {"model_info": staticmethod(fail)})()  # noqa: E731
    monkeypatch.setattr(remote, "open_api", stub)
    with pytest.raises(error) as said:
        client.read_remote("org/name")
    assert type(said.value) is error


def test_large_and_small_files_are_known_by_their_digests(hub: HubServer, base: str) -> None:
    found = client.read_remote(BASE)
    assert found.head == base
    assert len(found.files["model.safetensors"].sha256) == 64
    assert found.files["config.json"].sha256 == ""
    assert len(found.files["config.json"].git_sha1) == 40


def test_reading_a_file_that_is_not_there_gives_none(hub: HubServer, base: str, tmp_path: Path) -> None:
    assert client.read_file(BASE, "zoo.lock.json", base, tmp_path) is None
    assert client.read_file(BASE, "config.json", base, tmp_path) == b"{}"
