"""Pull requests of a model repository: a commit that others can look at, and check, before it is `main`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import HubError, NotFoundError, RefusedError
from zoo.hub.address import Address
from zoo.hub.client import no_bars, open_api
from zoo.hub.errors import UnavailableError, translated
from zoo.hub.writing import operations

MAX_COMMENT = 60_000  # characters; the Hub cuts longer ones off


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """One pull request.

    Attributes:
        number: as people name it.
        url: where people look at it.
        revision: `refs/pr/N`, under which its files can be downloaded.
        author: the account that opened it; empty where the Hub did not say.
    """

    number: int
    url: str
    revision: str
    author: str = ""


def propose(
    target: Address, folder: Path, *, add: Iterable[str], delete: Iterable[str], message: str, parent: str
) -> PullRequest:
    """Opens a pull request with one commit; arguments as of `zoo.hub.commit`.

    Args:
        target: the repository, and the folder in it where the files belong.
        folder: where the files to add are.
        add: their paths, in both folders.
        delete: paths in the target's folder.
        message: its title.
        parent: the commit that it is based on.

    Raises:
        HubError: ZH007 no access, ZH008 no answer: it may have been opened.
        RefusedError: ZH005, the Hub rejects the card.
    """
    with translated(f"open a pull request at {target.repo}"), no_bars():
        made = open_api().create_commit(
            target.repo,
            operations(target, folder, add, delete),
            commit_message=message,
            parent_commit=parent,
            create_pr=True,
        )
    return PullRequest(number=made.pr_num or 0, url=made.pr_url or "", revision=made.pr_revision or "")


def proposed(repo: str, title: str) -> list[PullRequest]:
    """Open pull requests of that title, the newest first.

    Raises:
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"read the pull requests of {repo}"):
        found = open_api().get_repo_discussions(
            repo, discussion_type="pull_request", discussion_status="open"
        )
        return [
            PullRequest(number=one.num, url=one.url, revision=f"refs/pr/{one.num}", author=one.author or "")
            for one in found
            if one.title == title
        ]


def account() -> str:
    """The account whose token is used; empty where the Hub does not say, as for a token of a CI job.

    Raises:
        UnavailableError: ZH008, no answer.
    """
    try:
        with translated("ask the Hub whose token this is"):
            return str(open_api().whoami()["name"])
    except UnavailableError:
        raise
    except (HubError, NotFoundError, KeyError):
        return ""


def head(repo: str, proposal: PullRequest) -> str:
    """The commit that a pull request is at now.

    Raises:
        NotFoundError: it is gone.
        HubError: ZH007 no access, ZH008 no answer.
    """
    with translated(f"read {proposal.revision} of {repo}"):
        return str(open_api().model_info(repo, revision=proposal.revision).sha)


def comment(repo: str, number: int, text: str) -> None:
    """Says something under a pull request, cut to what the Hub takes.

    Raises:
        HubError: ZH007 no access, ZH008 no answer: it may have been said.
    """
    cut = text if len(text) <= MAX_COMMENT else text[:MAX_COMMENT] + "\n\n… cut here: too long for a comment"
    with translated(f"comment on {repo}#{number}"):
        open_api().comment_discussion(repo, number, comment=cut)


def close(repo: str, number: int, why: str) -> None:
    """Closes a pull request with a word about it.

    Raises:
        HubError: ZH007 no access, ZH008 no answer: it may have been closed.
    """
    with translated(f"close {repo}#{number}"):
        open_api().change_discussion_status(repo, number, "closed", comment=why)


def merge(repo: str, number: int) -> str:
    """Merges a pull request into `main`; one that was merged meanwhile is fine.

    Returns:
        The merge commit.

    Raises:
        RefusedError: ZH003, `main` moved and conflicts with it; ZH012, it was closed.
        HubError: ZH007 no access, ZH008 no answer: it may have been merged.
    """
    from huggingface_hub.errors import HfHubHTTPError

    with translated(f"merge {repo}#{number}"):
        api = open_api()
        state = api.get_discussion_details(repo, number)
        if state.status == "draft":
            api.change_discussion_status(repo, number, "open")
        if state.status == "closed":
            raise RefusedError(
                f"{repo}#{number} was closed", hint="open it again, or publish anew", code="ZH012"
            )
        if state.conflicting_files:
            raise RefusedError(
                f"{repo}#{number} conflicts with main, which moved meanwhile",
                hint="close it, look at what changed on main, and publish anew",
                code="ZH003",
            )
        if state.status != "merged":
            try:
                api.merge_pull_request(repo, number)
            except HfHubHTTPError:  # "not open": this very request may have come through twice
                state = api.get_discussion_details(repo, number)
                if state.status != "merged":
                    raise
            else:
                state = api.get_discussion_details(repo, number)
    if not state.merge_commit_oid:
        raise HubError(f"{repo}#{number} is merged, and the Hub does not say as what", code="ZH008")
    return str(state.merge_commit_oid)
