"""Adapters by name: a folder here, or a place on the Hub."""

from pathlib import Path

from zoo.adapter import RELEASED, AdapterRepo
from zoo.errors import NotFoundError, UsageError
from zoo.hub.address import Address
from zoo.hub.client import no_bars, open_api
from zoo.hub.errors import translated
from zoo.layouts import CONFIG_NAME, placements

ALONGSIDE = ("*.md", "*.png", "LICENSE*", "NOTICE*")  # small; without them `zoo verify` could not say yes


def open_adapter(source: str | Path) -> AdapterRepo:
    """Opens an adapter folder, or downloads an adapter into the client's cache and opens it there.

    What the cache holds of that commit is not downloaded again, and without a network a revision that was
    downloaded before is taken from it.

    Args:
        source: a path, or `org/name[/folder][@revision]`; see `Address.of_source`.

    Raises:
        NotFoundError: there is no such folder, repository or revision, or no adapter in it.
        UsageError: several adapters lie there; the message lists them.
        HubError: ZH007 no access, ZH008 no answer.
    """
    text = str(source)
    address = Address.of_source(text)
    if address is None:
        return AdapterRepo.open(Path(text))
    with translated(f"download {address}"), no_bars():
        api = open_api()
        commit = api.resolve_revision(address.repo, revision=address.revision or None).resolved
        inside = f"{address.folder}/" if address.folder else ""
        configs = [f"{inside}{CONFIG_NAME}", f"{inside}*/{CONFIG_NAME}"]
        root = Path(api.snapshot_download(address.repo, revision=commit, allow_patterns=configs))
        folder = _only(root / address.folder, root, address)
        place = folder.relative_to(root).as_posix()
        wanted = (*RELEASED, *ALONGSIDE)
        names = [name if place == "." else f"{place}/{name}" for name in wanted]
        root = Path(api.snapshot_download(address.repo, revision=commit, allow_patterns=names))
    return AdapterRepo.open(root / place, commit=commit)


def ambiguity(source: str | Path) -> str:
    """Which of two adapters a source names, in words; empty where it can mean one alone."""
    if Address.of_source(str(source)) is None or not Path(source).exists():
        return ""
    return f"{source} is taken from the Hub; ./{source} is the folder of that name here"


def _only(folder: Path, root: Path, address: Address) -> Path:
    """The one adapter at or below a folder of a snapshot."""
    found = placements(folder) if folder.is_dir() else []
    if not found:
        raise NotFoundError(
            f"{address} holds no adapter: no {CONFIG_NAME}", hint="check the name and the folder"
        )
    if len(found) > 1:
        places = [f"{address.repo}/{one.folder.relative_to(root).as_posix()}" for one in found]
        listed = ", ".join(places[:6]) + (", …" if len(places) > 6 else "")
        raise UsageError(
            f"{address} holds {len(found)} adapters: {listed}",
            hint=f"name one of them, for example {places[0]}",
        )
    return found[0].folder
