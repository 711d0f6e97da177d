"""How a published release is presented: who gets at it, in which collection it is, what it replaces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zoo import hub
from zoo.errors import RefusedError, UsageError
from zoo.hub import Remote
from zoo.hub.address import Address
from zoo.hub.collection import add_to_collection, check_collection
from zoo.publishing.succession import check_successor, link_successor


@dataclass(frozen=True, slots=True, kw_only=True)
class Presentation:
    """What is to hold of a repository beside its files; each is done once, however often it is asked for.

    Attributes:
        private: whether only members see it; it counts when the repository is made.
        gated: `auto` or `manual`: people ask for access; empty leaves it as it is.
        collection: `ORG/TITLE`, or the end of a collection's address; empty is none.
        supersedes: `org/name` of a repository whose card shall name this one; empty is none.
    """

    private: bool = False
    gated: Literal["", "auto", "manual"] = ""
    collection: str = ""
    supersedes: str = ""

    def check(self, target: Address) -> None:
        """Refuses what can never be done, without asking anybody.

        Raises:
            UsageError: no collection can be called so; a repository cannot supersede itself.
        """
        if self.collection:
            check_collection(self.collection)
        if self.supersedes:
            old = Address.target(self.supersedes)
            if old.folder or old.repo == target.repo:
                raise UsageError(
                    f"{target.repo} cannot supersede {self.supersedes}",
                    hint="name another repository: versions of one follow each other by their tags",
                )

    def foresee(self, target: Address, remote: Remote, scratch: Path) -> None:
        """Refuses before anything is written what would be refused afterwards.

        Raises:
            RefusedError: ZH009, the repository is public; ZH015, what is superseded names another one.
            NotFoundError: what is superseded is not there.
            HubError: ZH007 no access, ZH008 no answer.
        """
        if remote.exists and self.private and not remote.private:
            raise RefusedError(
                f"{target.repo} is public, and --private was given",
                code="ZH009",
                hint="make it private in its settings on the Hub, or leave --private out",
            )
        if self.supersedes:
            check_successor(self.supersedes, target.repo, scratch)

    def lines(self) -> tuple[str, ...]:
        """What is done beside the files, a line each, for a plan."""
        return tuple(
            line
            for line, wanted in (
                (f"access     gated ({self.gated})", self.gated),
                (f"collection {self.collection}", self.collection),
                (f"supersedes {self.supersedes}", self.supersedes),
            )
            if wanted
        )

    def open(self, repo: str, remote: Remote) -> Remote:
        """Makes the repository if it is not there, gated before anything is in it; returns its state.

        Raises:
            HubError: ZH007 no access, ZH008 no answer.
        """
        if not remote.exists:
            hub.create_repository(repo, private=self.private)
            remote = hub.read_remote(repo)
        if self.gated and remote.gated != self.gated:
            hub.set_gated(repo, self.gated)
        return remote

    def announce(self, target: Address, note: str, scratch: Path) -> tuple[str, ...]:
        """Puts a published release into its collection and links what it replaces; says what holds now.

        Raises:
            HubError: ZH003, ZH007, ZH008.
            RefusedError: ZH005, ZH015, see `link_successor`.
        """
        said = []
        if self.collection:
            said.append(f"collection {add_to_collection(self.collection, target.repo, note=note)}")
        if self.supersedes:
            link_successor(self.supersedes, target.repo, scratch)
            said.append(f"supersedes {hub.repository_url(self.supersedes)}")
        return tuple(said)


PLAIN = Presentation()  # a repository and its files, and nothing beside them
