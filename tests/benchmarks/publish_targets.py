"""Where the publication benchmarks publish to, and how they tell what is there.

A target holds release 0.1.0, and is put back to it before each run that publishes 0.2.0. What it holds
afterwards is one whole release or the other, or a mixture, which the checks must be able to see: `control`.
"""

import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.publishing.spawner import Spawner, spawner
from zoo.hub.address import Address

PLACE = Address(repo="org/relevance")
State = Literal["old", "new", "nothing", "mixture"]


@dataclass
class Releases:
    """The two releases, and how to tell what a folder holds."""

    old: Path
    new: Path
    base: Path

    def state(self, folder: Path, hub_id: str) -> tuple[State, str]:
        """Which release a folder is, entirely; `mixture` with the reason when it is neither."""
        from zoo.adapter import AdapterRepo
        from zoo.cards.card import recorded_report, render_card
        from zoo.errors import ZooError
        from zoo.provenance import payload_digests

        if not folder.exists() or not any(folder.iterdir()):
            return "nothing", ""
        present = payload_digests(folder)
        found: State = "mixture"
        for name, source in (("old", self.old), ("new", self.new)):
            if present == payload_digests(source):
                found = "old" if name == "old" else "new"
        if found == "mixture":
            return found, f"payload is neither's: {sorted(present)}"
        try:
            repo = AdapterRepo.open(folder)
            if repo.lock is None or repo.lock.files != present:
                return "mixture", "the lock belongs to other files"
            card = render_card(repo, recorded_report(repo), hub_id=hub_id)
        except ZooError as error:
            return "mixture", str(error)
        if (folder / "README.md").read_text() != card:
            return "mixture", "the card belongs to other files"
        return found, ""


@dataclass
class Tally:
    """What happened, counted."""

    runs: int = 0
    killed: int = 0
    left_old: int = 0
    left_new: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, where: str, code: int, state: State, reason: str, *, before: State = "old") -> None:
        """Counts one run and what it left, which is what was there `before` or the new release."""
        self.runs += 1
        self.killed += code == -signal.SIGKILL
        self.left_old += state == before
        self.left_new += state == "new"
        if state not in (before, "new"):
            self.problems.append(f"{where}: {state}: {reason}")

    def require(self, where: str, holds: bool, what: str) -> None:
        """Notes a problem unless something holds."""
        if not holds:
            self.problems.append(f"{where}: {what}")


# ---------------------------------------------------------------- the Hub


@dataclass
class HubTarget:
    """A repository with the old release, or a folder of one; put back before each run.

    Attributes:
        place: where the releases go.
        options: of `zoo publish`, beside the target and the base.
        fresh: whether there is no repository before, and so no old release.
        refs: of each repository, as `reset` makes them again.
    """

    hub: Any
    spawner: Spawner
    releases: Releases
    work: Path
    place: Address = PLACE
    options: tuple[str, ...] = ()
    fresh: bool = False
    refs: dict[str, dict[str, str]] = field(default_factory=dict)

    def arguments(self, release: Path) -> list[object]:
        """The command line that publishes a release here."""
        target = ["publish", release, "--repo", self.place, "--base", self.releases.base]
        return [*target, "--quiet", *self.options]

    def prepare(self) -> None:
        """Publishes the old release and remembers the references."""
        if not self.fresh:
            assert self.spawner.run(*self.arguments(self.releases.old)) == 0, (self.work / "log").read_text()
        self.refs = {one.id: dict(one.refs) for one in self.hub.store.repositories()}

    def reset(self) -> None:
        """Makes the Hub what it was after the old release, the new weights not yet uploaded."""
        from zoo.provenance import sha256_file

        store = self.hub.store
        self.hub.faults.clear()
        store.collections.clear()
        weights = sha256_file(self.releases.new / "adapter_model.safetensors")
        store.blobs.path(weights).unlink(missing_ok=True)
        for repository in store.repositories():
            if repository.id not in self.refs:
                store.delete(repository.id)
                continue
            repository.refs.clear()
            repository.refs.update(self.refs[repository.id])
            repository.discussions.clear()
            kept = {one.oid for ref in repository.refs for one in repository.history(repository.resolve(ref))}
            repository.commits = {oid: one for oid, one in repository.commits.items() if oid in kept}

    def exists(self) -> bool:
        """Whether the repository is there."""
        return self.place.repo in [one.id for one in self.hub.store.repositories()]

    def tags(self) -> dict[str, str]:
        """Commit by tag."""
        return self.hub.store.tags(self.place.repo) if self.exists() else {}

    def state(self, revision: str) -> tuple[State, str]:
        """What a revision holds at the place."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        content = self.hub.store.contents(self.place.repo, revision) if self.exists() else {}
        mark = self.place.within("")
        for name, data in content.items():
            if name != ".gitattributes" and name.startswith(mark):
                (folder / name[len(mark) :]).write_bytes(data)
        try:
            return self.releases.state(folder, str(self.place))
        finally:
            shutil.rmtree(folder)

    def check(self, tally: Tally, where: str, code: int) -> None:
        """Checks main and tags after a run that failed, then that one more run completes the release."""
        self.hub.faults.clear()
        state, reason = self.state("main")
        tally.note(where, code, state, reason, before="nothing" if self.fresh else "old")
        self._check_tags(tally, where)
        again = self.spawner.run(*self.arguments(self.releases.new))
        tally.require(where, again == 0, f"the second run ended with {again}")
        tally.require(where, self.state("main")[0] == "new", "the second run did not complete it")
        self._check_tags(tally, where)
        store, tag = self.hub.store, self.place.tag("0.2.0")
        tally.require(
            where, self.tags().get(tag) == store.head(self.place.repo), "the tag is not at the head"
        )
        made = store.repository(self.place.repo)
        history = [one.oid for one in made.history(made.resolve("main"))]
        # the oldest commit is the repository's own
        commits = len(history) - 1 if self.fresh else history.index(self._kept("refs/heads/main"))
        tally.require(where, commits == 1, f"there are {commits} new commits")

    def _kept(self, ref: str) -> str:
        return self.refs[self.place.repo][ref]

    def _check_tags(self, tally: Tally, where: str) -> None:
        old, new = self.place.tag("0.1.0"), self.place.tag("0.2.0")
        if not self.fresh:
            kept = self._kept(f"refs/tags/{old}")
            tally.require(where, self.tags().get(old) == kept, "the old tag moved or is lost")
        if new in self.tags():
            tally.require(where, self.state(new)[0] == "new", "the new tag names something else")


# ---------------------------------------------------------------- a local folder


@dataclass
class FolderTarget:
    """A folder with the old release, put back before each run."""

    spawner: Spawner
    releases: Releases
    work: Path

    @property
    def target(self) -> Path:
        """The folder."""
        return self.work / "shelf" / "relevance"

    def arguments(self, release: Path) -> list[object]:
        """The command line that publishes a release here."""
        return ["publish", release, "--to", self.target, "--base", self.releases.base, "--quiet"]

    def prepare(self) -> None:
        """Publishes the old release and keeps a copy."""
        assert self.spawner.run(*self.arguments(self.releases.old)) == 0, (self.work / "log").read_text()
        shutil.copytree(self.target, self.work / "kept")

    def reset(self) -> None:
        """Makes the folder what it was after the old release; leftovers of killed runs stay."""
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.copytree(self.work / "kept", self.target)

    def check(self, tally: Tally, where: str, code: int) -> None:
        """Checks the folder after a kill, then that one more run completes the release and cleans up."""
        state, reason = self.releases.state(self.target, "")
        tally.note(where, code, state, reason)
        again = self.spawner.run(*self.arguments(self.releases.new))
        tally.require(where, again == 0, f"the second run ended with {again}")
        tally.require(where, self.releases.state(self.target, "")[0] == "new", "it was not completed")
        rest = [path.name for path in self.target.parent.iterdir() if path != self.target]
        tally.require(where, not rest or state == "new", f"leftovers: {rest}")


# ---------------------------------------------------------------- both


@contextmanager
def targets(work: Path, *, checked: bool = True) -> Iterator[tuple[HubTarget, FolderTarget]]:
    """A Hub and a folder that hold release 0.1.0."""
    from tests.hub.server import HubServer

    releases = Releases(work / "old", work / "new", work / "base")
    if checked:
        from tests.conftest import build_tiny_base
        from tests.real_release import real_release
        from zoo.models import resolve

        base = resolve(str(build_tiny_base(releases.base)))
        real_release(base, releases.old, version="0.1.0", seed=1)
        real_release(base, releases.new, version="0.2.0", seed=2)
    else:
        from tests.releases import write_release

        write_release(releases.old, version="0.1.0", seed=1)
        write_release(releases.new, version="0.2.0", seed=2)
    (releases.old / "LICENSE").write_text("the old release has a licence\n")
    (releases.new / "NOTES.md").write_text("the new release has notes\n")
    with (
        HubServer() as hub,
        spawner(work, hub.environment(work / "home", xet=False), checked=checked) as forks,
    ):
        on_hub = HubTarget(hub, forks, releases, work)
        in_folder = FolderTarget(forks, releases, work)
        on_hub.prepare()
        in_folder.prepare()
        control(on_hub, in_folder)
        yield on_hub, in_folder


def control(on_hub: HubTarget, in_folder: FolderTarget) -> None:
    """The checks must find a mixture when there is one."""
    for name in ("adapter_model.safetensors", "zoo.yaml", "LICENSE"):
        folder = in_folder.work / f"mixed-{name}"
        shutil.copytree(in_folder.target, folder)
        source = in_folder.releases.new / name
        (folder / name).write_bytes(source.read_bytes()) if source.exists() else (folder / name).unlink()
        assert in_folder.releases.state(folder, "")[0] == "mixture"
    assert in_folder.releases.state(in_folder.target, "") == ("old", "")
    assert in_folder.releases.state(in_folder.target, str(PLACE))[0] == "mixture"  # a card of another place
    assert on_hub.state("main")[0] == "old"
