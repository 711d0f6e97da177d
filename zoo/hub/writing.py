"""Changes of a repository: made, committed to, tagged.

Publishing uses one commit with a parent, never the client's `upload_folder`, which splits a release over
several commits.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from zoo.hub.address import Address
from zoo.hub.client import no_bars, open_api
from zoo.hub.errors import card_refused, translated


def check_card(card: str) -> None:
    """Asks the Hub whether it accepts a card's metadata; writes nothing.

    Raises:
        RefusedError: ZH005, it does not.
        HubError: ZH008, no answer.
    """
    from huggingface_hub import ModelCard

    with translated("check the card"):
        try:
            ModelCard(card).validate()
        except ValueError as error:
            raise card_refused(error) from None


def create_repository(repo: str, *, private: bool) -> None:
    """Makes a model repository; one that exists by now is fine.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"create {repo}"):
        open_api().create_repo(repo, private=True if private else None, exist_ok=True)


def set_gated(repo: str, gated: Literal["auto", "manual"]) -> None:
    """Makes people ask for access to a repository: granted to each (`auto`), or decided on (`manual`).

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"gate {repo}"):
        open_api().update_repo_settings(repo, gated=gated)


def commit(
    target: Address, folder: Path, *, add: Iterable[str], delete: Iterable[str], message: str, parent: str
) -> str:
    """Commits changes onto `main`, all in one commit or none.

    Args:
        target: the repository, and the folder in it where the files belong.
        folder: where the files to add are.
        add: their paths, in both folders.
        delete: paths in the target's folder.
        message: the commit's first line.
        parent: the commit that `main` must still be at.

    Returns:
        The new commit.

    Raises:
        HubError: ZH003 `main` moved meanwhile, ZH007 no access, ZH008 no answer: the commit may have arrived.
        RefusedError: ZH005, the Hub rejects the card.
    """
    with translated(f"commit to {target.repo}"), no_bars():
        made = open_api().create_commit(
            target.repo,
            operations(target, folder, add, delete),
            commit_message=message,
            parent_commit=parent,
        )
    return str(made.oid)


def operations(target: Address, folder: Path, add: Iterable[str], delete: Iterable[str]) -> list[Any]:
    """What the client wants to know of a commit; arguments as of `commit`."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added: list[Any] = [CommitOperationAdd(target.within(path), str(folder / path)) for path in sorted(add)]
    return added + [CommitOperationDelete(target.within(path)) for path in sorted(delete)]


def create_tag(repo: str, tag: str, commit: str) -> None:
    """Names a commit; a tag that is there already stays where it is.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"tag {repo}"):
        open_api().create_tag(repo, tag=tag, revision=commit, exist_ok=True)
