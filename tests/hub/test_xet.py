"""The Xet store with hf_xet itself, of which the Hub only knows the folder and the layout of shards."""

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.conftest import RunClient, Send
from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.hub.xet import XetStore, shard_contents

TRANSFER = Path(__file__).with_name("xet_transfer.py")
FIRST = random.Random(0).randbytes(1_500_000)
SECOND = FIRST[:1_000_000] + random.Random(1).randbytes(300_000)


def transfer(*arguments: str) -> str:
    command = [sys.executable, str(TRANSFER), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_shards_say_which_content_has_which_hash(tmp_path: Path) -> None:
    contents = {"first": FIRST, "second": SECOND, "small": b"small"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    printed = transfer("put", f"local://{tmp_path / 'store'}", *(str(tmp_path / name) for name in contents))
    shards = list((tmp_path / "store").glob("xet/xorbs/shards/*.mdb"))
    found = {pair for shard in shards for pair in shard_contents(shard.read_bytes())}
    assert found == set(zip(map(sha256, contents.values()), printed.split(), strict=True))


def test_a_shard_that_is_cut_off_gives_what_is_complete(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FIRST)
    transfer("put", f"local://{tmp_path / 'store'}", str(tmp_path / "file"))
    [shard] = (tmp_path / "store").glob("xet/xorbs/shards/*.mdb")
    assert list(shard_contents(shard.read_bytes()[:60])) == []
    assert list(shard_contents(b"")) == []


def test_an_upload_is_found_and_read_back(tmp_path: Path) -> None:
    store = XetStore(tmp_path / "content")
    (tmp_path / "file").write_bytes(FIRST)
    assert store.hash_of(sha256(FIRST)) is None
    xet_hash = transfer("put", store.upload_address(), str(tmp_path / "file")).strip()
    assert store.hash_of(sha256(FIRST)) == xet_hash
    assert store.read(sha256(FIRST), len(FIRST)) == FIRST
    assert store.hash_of(sha256(SECOND)) is None


def test_every_client_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    store = XetStore(tmp_path / "content")
    (tmp_path / "file").write_bytes(FIRST)
    xet_hash = transfer("put", store.upload_address(), str(tmp_path / "file")).strip()
    addresses = [store.download_address({xet_hash: tmp_path / "file"}) for _ in range(2)]
    assert len({*addresses, store.upload_address(), store.upload_address()}) == 4
    for number, address in enumerate(addresses):
        target = tmp_path / str(number)
        transfer("get", address, xet_hash, str(len(FIRST)), str(target))
        assert target.read_bytes() == FIRST


def test_a_content_under_a_wrong_hash_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FIRST)
    with pytest.raises(RuntimeError, match="hf_xet names the contents"):
        XetStore(tmp_path / "content").download_address({"0" * 64: tmp_path / "file"})


def test_contents_that_share_chunks_come_back_whole(hub: HubServer, run_client: RunClient) -> None:
    # The second upload could leave out chunks that the first one has sent, to another folder.
    publish = """
import random
first = random.Random(0).randbytes(1_500_000)
second = first[:1_000_000] + random.Random(1).randbytes(300_000)
for path, content in (("first.bin", first), ("second.bin", second)):
    api.create_commit("org/name", [CommitOperationAdd(path, content)], commit_message=path)
"""
    read = """
import hashlib, pathlib
folder = pathlib.Path(snapshot_download("org/name", force_download=True))
for path in ("first.bin", "second.bin"):
    print(hashlib.sha256(folder.joinpath(path).read_bytes()).hexdigest())
"""
    run_client(publish, HF_HUB_DISABLE_XET="0")
    stored = hub.store.contents("org/name")
    assert (stored["first.bin"], stored["second.bin"]) == (FIRST, SECOND)
    assert len(hub.requests.matching("GET", ".*/xet-write-token/.*")) == 2
    by_xet, plain = (run_client(read, HF_HUB_DISABLE_XET=disabled).output for disabled in "01")
    assert by_xet.split() == plain.split() == [sha256(FIRST), sha256(SECOND)]
    assert len(hub.requests.matching("GET", ".*/xet-read-token/.*")) == 1


def test_a_client_without_the_token_route_fails_and_publishes_nothing(
    hub: HubServer, run_client: RunClient
) -> None:
    hub.faults.add(Fault(path=r".*/xet-write-token/.*", status=404, times=None))
    code = 'api.create_commit("org/name", [CommitOperationAdd("a.bin", b"a")], commit_message="a")'
    assert run_client(code, check=False, HF_HUB_DISABLE_XET="0").code != 0
    assert "a.bin" not in hub.store.contents("org/name")
    run_client(code, HF_HUB_DISABLE_XET="1")
    assert hub.store.contents("org/name")["a.bin"] == b"a"


def test_a_download_needs_no_token_unless_it_is_private(hub: HubServer, send: Send) -> None:
    hub.store.create("org/secret", private=True)
    assert send("GET", "/api/models/org/name/xet-read-token/main", token=None).status == 200
    assert send("GET", "/api/models/org/name/xet-write-token/main", token=None).status == 401
    assert send("GET", "/api/models/org/secret/xet-read-token/main", token=None).status == 401
    assert send("GET", "/api/models/org/secret/xet-read-token/main").json["casUrl"].startswith("local:///")
