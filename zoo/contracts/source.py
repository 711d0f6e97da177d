"""Where a contract is read from: a folder, or a repository on the Hub at a revision.

Of a repository only the three small files of the contract are downloaded, never weights.
"""

import tempfile
from pathlib import Path

from zoo import hub
from zoo.contracts.contract import CONTRACT_FILES, Contract, read_contract
from zoo.errors import NotFoundError, RefusedError
from zoo.hub import Remote
from zoo.hub.address import Address, commit_of
from zoo.layouts import CONFIG_NAME
from zoo.specs.document import MAX_DOCUMENT_BYTES


def open_contract(source: str) -> Contract:
    """Reads the contract of a folder, or of a repository.

    Args:
        source: a folder that exists, else `org/name[/folder][@revision]`.

    Raises:
        NotFoundError: there is nothing of that name, or no contract in it.
        UsageError: several adapters lie there.
        SpecError: a file breaks its specification.
        HubError: ZH007 no access, ZH008 no answer.
    """
    if Path(source).exists():
        return read_contract(Path(source))
    address = None if source.startswith((".", "~")) else Address.parse(source)
    if address is None:
        raise NotFoundError(
            f"{source} is neither a folder nor a repository",
            hint="give a folder, or ORG/NAME, ORG/NAME@v1.2.0 or ORG/NAME/FOLDER@COMMIT",
        )
    remote = hub.read_remote(address.repo)
    if not remote.exists:
        raise NotFoundError(
            f"{source} is no folder, and the Hub has no model repository {address.repo}",
            hint="check the path, or the name and your access",
        )
    commit = commit_of(remote, address.repo, address.revision)
    with tempfile.TemporaryDirectory(prefix="zoo-diff-") as scratch:
        folder = fetch_contract(address.repo, commit, Path(scratch), folder=address.folder)
        if folder is None:
            raise NotFoundError(
                f"{address} holds none of {', '.join(CONTRACT_FILES)}", hint=_others(address, remote)
            )
        return read_contract(folder, where=f"{address} ({commit[:12]})")


def fetch_contract(repo: str, commit: str, into: Path, *, folder: str = "") -> Path | None:
    """Downloads the files of a contract, and nothing else.

    Args:
        repo: `org/name`.
        commit: full hash.
        into: an empty folder.
        folder: in the repository.

    Returns:
        The folder with the files; None when there is none of them.

    Raises:
        RefusedError: ZO204, a file is too large to be what its name says.
        HubError: ZH007 no access, ZH008 no answer.
    """
    names = {f"{folder}/{name}" if folder else name: name for name in CONTRACT_FILES}
    target = into / "contract"
    target.mkdir()
    found = hub.sizes(repo, names, commit)
    for path, size_bytes in found.items():
        if size_bytes > MAX_DOCUMENT_BYTES:
            raise RefusedError(
                f"{path} of {repo} is larger than {MAX_DOCUMENT_BYTES:,} bytes",
                code="ZO204",
                hint="look at that file on the Hub: it is not what its name says",
            )
        content = hub.read_file(repo, path, commit, into / "download")
        if content is not None:
            (target / names[path]).write_bytes(content)
    return target if found else None


def _others(address: Address, remote: Remote) -> str:
    places = sorted(
        path.removesuffix(CONFIG_NAME).strip("/") for path in remote.files if path.endswith(f"/{CONFIG_NAME}")
    )
    if not places:
        return "name a repository with an adapter"
    more = ", …" if len(places) > 4 else ""
    return f"name one of its adapters: {', '.join(f'{address.repo}/{place}' for place in places[:4])}{more}"
