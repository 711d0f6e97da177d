"""Publishing onto the Hub: one commit, one tag, one comparison, each of which may be the last to happen."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.adapter import CARD_NAME, LOCK_NAME
from zoo.errors import HubError, NotFoundError, RefusedError, VerdictError, ZooError
from zoo.hub import Remote, UnavailableError
from zoo.hub.address import Address
from zoo.layouts import CONFIG_NAME
from zoo.progress import Progress
from zoo.publishing.plan import KEPT, ReleasePlan, compare, foreign_files, plan_release
from zoo.publishing.presentation import Presentation
from zoo.publishing.previous import compare_with_hub
from zoo.publishing.result import Outcome, Published, read_back
from zoo.publishing.stage import StagedRelease, parse_lock
from zoo.specs.document import MAX_DOCUMENT_BYTES

RETRY_SECONDS = (2.0, 8.0, 20.0)
LONGEST_WAIT_SECONDS = 60.0
NOTHING = "nothing was written"
MAYBE = "the commit may have arrived: the same command finds out, and makes none twice"

OnPlan = Callable[[ReleasePlan], object]


class HubPublication:
    """One publication onto the Hub: attempts that each begin by looking at what is there.

    Attributes:
        target: where it goes: a repository, or a folder of one.
        state: what holds by now, for whoever reads why it ended.
    """

    def __init__(
        self,
        staged: StagedRelease,
        scratch: Path,
        *,
        presentation: Presentation,
        dry_run: bool,
        progress: Progress,
        on_plan: OnPlan | None,
    ) -> None:
        """Remembers what `zoo.release.publish` was given; see there."""
        self.staged = staged
        self.target = Address.target(staged.hub_id)
        self.repo = self.target.repo
        self.scratch = scratch
        self.presentation = presentation
        self.dry_run = dry_run
        self.progress = progress
        self.on_plan = on_plan
        self.downloads = 0
        self.state = NOTHING

    def run(self) -> Published:
        """Attempts until it is done; after an outage the next attempt finds out what had arrived."""
        try:
            for wait in RETRY_SECONDS:
                try:
                    return self.attempt()
                except UnavailableError as error:
                    pause = min(max(wait, error.retry_after), LONGEST_WAIT_SECONDS)
                    self.step(0, f"{error.message}; again in {pause:.0f} s")
                    time.sleep(pause)
            return self.attempt()
        except ZooError as error:
            error.message += f"; {self.state}"
            raise

    def attempt(self) -> Published:
        """Looks, plans, and does what is missing."""
        self.step(0, "reading the repository")
        whole = hub.read_remote(self.repo)
        check_neighbours(self.target, whole)
        self.presentation.foresee(self.target, whole, self.fresh_folder())
        remote = self.target.view(whole)
        tagged = remote.tags.get(self.staged.tag, "")
        if tagged:
            return self._already(remote, tagged)
        resumed = self.adopt_from(remote, remote.head)
        self.step(0, "comparing its contract")
        compared = compare_with_hub(self.staged.folder, self.target, remote, self.fresh_folder())
        plan = self._plan(remote, compared=compared)
        hub.check_card((self.staged.folder / CARD_NAME).read_text(encoding="utf-8"))
        if self.dry_run:
            return self._planned(plan)
        opened = self.target.view(self._opened(whole))
        if plan.new_repository and set(opened.files) - {KEPT}:
            raise foreign_files(str(self.target), sorted(set(opened.files) - {KEPT}))
        commit = self._commit(plan, opened)
        self.state = f"commit {commit[:12]} on main holds the release, and no tag may name it yet"
        self.step(2, f"tagging {commit[:12]}")
        hub.create_tag(self.repo, self.staged.tag, commit)
        return self._verified(plan, commit, "completed" if resumed and not plan.writes else "published")

    def _plan(self, remote: Remote, **known: Any) -> ReleasePlan:
        """What is to be done, told to whoever wants to know."""
        also = self.presentation.lines()
        plan = plan_release(self.staged, str(self.target), remote, also=also, **known)
        if self.on_plan is not None:
            self.on_plan(plan)
            self.on_plan = None  # a second attempt does what the first one announced
        return plan

    def _planned(self, plan: ReleasePlan) -> Published:
        return Published(outcome="planned", plan=plan, where=hub.repository_url(self.repo), verified={})

    def _opened(self, whole: Remote) -> Remote:
        if not whole.exists and self.state == NOTHING:
            self.state = f"{self.repo} may have been made, and holds nothing of the release"
        return self.presentation.open(self.repo, whole)

    def _commit(self, plan: ReleasePlan, opened: Remote) -> str:
        if not plan.writes:
            return plan.parent
        self.step(1, "one commit")
        self.state = MAYBE
        return self.land(plan, opened)

    def land(self, plan: ReleasePlan, opened: Remote) -> str:
        """Puts the release on `main`, and returns the commit that holds it.

        Args:
            plan: what changes.
            opened: the target as it is now; the commit goes on top of its head.

        Raises:
            HubError: ZH003, what the plan was made for changed meanwhile; nothing of this release is there.
        """
        for _ in RETRY_SECONDS:
            try:
                return self._commit_onto(plan, opened.head)
            except HubError as error:
                if error.code != "ZH003":
                    raise
                moved = self.target.view(hub.read_remote(self.repo))
                if all(one.action == "unchanged" for one in compare(self.staged.folder, moved.files)):
                    return moved.head  # it was this very commit, sent twice on the way
                if moved.files != opened.files:
                    self.state = "main has the other change, and nothing of this release"
                    raise
                opened = moved  # somebody changed another adapter of this repository
        return self._commit_onto(plan, opened.head)

    def _commit_onto(self, plan: ReleasePlan, parent: str) -> str:
        return hub.commit(
            self.target,
            self.staged.folder,
            add=plan.paths("add", "change"),
            delete=plan.paths("delete"),
            message=plan.message,
            parent=parent,
        )

    def _already(self, remote: Remote, tagged: str) -> Published:
        """The tag is there: the same release is only verified again, another one refused."""
        if not self.adopt_from(remote, tagged):
            raise RefusedError(
                f"{self.staged.tag} of {self.repo} exists at commit {tagged[:12]} with other content",
                code="ZH002",
                hint="a published version does not change: raise `version` in zoo.yaml",
            )
        plan = self._plan(replace(remote, head=tagged), published=True)
        if self.dry_run:
            return self._planned(plan)
        self._opened(remote)
        return self._verified(plan, tagged, "unchanged", card_may_differ=True)

    def adopt_from(self, remote: Remote, commit: str) -> bool:
        """Takes over the evidence of a commit with this release; False where it holds something else."""
        known = remote.files.get(LOCK_NAME)
        if not commit or (known and commit == remote.head and known.size_bytes > MAX_DOCUMENT_BYTES):
            return False
        raw = self._read(LOCK_NAME, commit)
        lock = parse_lock(raw) if raw is not None else None
        if lock is None or not self.staged.same_release(lock):
            return False
        self.staged = self.staged.adopt(lock, lambda name: self._read(name, commit))
        return True

    def _read(self, name: str, commit: str) -> bytes | None:
        return hub.read_file(self.repo, self.target.within(name), commit, self.fresh_folder())

    def fetch(self, revision: str) -> Path:
        """Downloads what a revision holds of the release, past every cache."""
        root = hub.download(self.repo, revision, self.fresh_folder(), below=self.target.folder)
        folder = root / self.target.folder
        if not folder.is_dir():
            raise NotFoundError(f"{self.target} is not there at {revision[:12]}")
        return folder

    def _verified(
        self, plan: ReleasePlan, commit: str, outcome: Outcome, *, card_may_differ: bool = False
    ) -> Published:
        """Downloads what the tag names and compares it with the stage, file by file."""
        self.state = f"{self.staged.tag} is there, and what it holds was not compared to the end"
        self.step(3, f"downloading {self.staged.tag} to compare")
        remote = hub.read_remote(self.repo)
        named = remote.tags.get(self.staged.tag, "")
        if named != commit:
            raise RefusedError(
                f"{self.staged.tag} of {self.repo} names commit {named[:12]}, not {commit[:12]}",
                code="ZH002",
                hint="somebody else published this version meanwhile: raise `version` in zoo.yaml",
            )
        try:
            folder = self.fetch(commit)
        except NotFoundError as error:
            raise VerdictError(error.message, code="ZH004", hint="run the same command again") from None
        verified = read_back(
            self.staged.folder, folder, f"{self.target}@{self.staged.tag}", card=not card_may_differ
        )
        self.step(4, "verified")
        self.state = f"{self.staged.tag} is published and verified"
        note = " ".join(self.staged.spec.description.strip().split("\n\n")[0].split())
        return Published(
            outcome=outcome,
            plan=plan,
            where="/".join(
                part
                for part in (hub.repository_url(self.repo), "tree", self.staged.tag, self.target.folder)
                if part
            ),
            commit=commit,
            tag=self.staged.tag,
            verified=verified,
            also=self.presentation.announce(self.target, note, self.fresh_folder()),
        )

    def step(self, done: int, note: str) -> None:
        """Tells the progress: how many of the four steps are done."""
        self.progress("publish", done=done, total=4, note=note)

    def fresh_folder(self) -> Path:
        """A folder that nothing was downloaded into yet."""
        self.downloads += 1
        folder = self.scratch / f"download-{self.downloads}"
        folder.mkdir()
        return folder


def check_neighbours(target: Address, whole: Remote) -> None:
    """Refuses a place inside another release: its lock would then not name every file that it holds.

    Raises:
        RefusedError: ZH010.
    """
    parts = target.folder.split("/") if target.folder else []
    for depth in range(len(parts)):
        above = replace(target, folder="/".join(parts[:depth]))
        if above.within(LOCK_NAME) in whole.files or above.within(CONFIG_NAME) in whole.files:
            raise RefusedError(
                f"{target} lies inside another release: {above}",
                hint="a repository holds one adapter at its top, or several side by side: name another place",
                code="ZH010",
            )
