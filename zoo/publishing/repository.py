"""Publishing onto the Hub: one commit, one tag, one comparison, each of which may be the last to happen."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from zoo import hub
from zoo.adapter import CARD_NAME, LOCK_NAME
from zoo.errors import NotFoundError, RefusedError, VerdictError
from zoo.hub import Remote, UnavailableError
from zoo.progress import Progress
from zoo.publishing.plan import KEPT, ReleasePlan, foreign_files, plan_release
from zoo.publishing.previous import compare_with_hub
from zoo.publishing.result import Outcome, Published, read_back
from zoo.publishing.stage import StagedRelease, parse_lock
from zoo.specs.document import MAX_DOCUMENT_BYTES

RETRY_SECONDS = (2.0, 8.0, 20.0)
LONGEST_WAIT_SECONDS = 60.0

OnPlan = Callable[[ReleasePlan], object]


class HubPublication:
    """One publication onto the Hub: attempts that each begin by looking at what is there."""

    def __init__(
        self,
        staged: StagedRelease,
        repo: str,
        scratch: Path,
        *,
        dry_run: bool,
        private: bool,
        progress: Progress,
        on_plan: OnPlan | None,
    ) -> None:
        """Remembers what `zoo.release.publish` was given; see there."""
        self.staged = staged
        self.repo = repo
        self.scratch = scratch
        self.dry_run = dry_run
        self.private = private
        self.progress = progress
        self.on_plan = on_plan
        self.downloads = 0

    def run(self) -> Published:
        """Attempts until it is done; after an outage the next attempt finds out what had arrived."""
        for wait in RETRY_SECONDS:
            try:
                return self.attempt()
            except UnavailableError as error:
                pause = min(max(wait, error.retry_after), LONGEST_WAIT_SECONDS)
                self.step(0, f"{error.message}; again in {pause:.0f} s")
                time.sleep(pause)
        return self.attempt()

    def attempt(self) -> Published:
        """Looks, plans, and does what is missing."""
        self.step(0, "reading the repository")
        remote = hub.read_remote(self.repo)
        if remote.exists and self.private and not remote.private:
            raise RefusedError(
                f"{self.repo} is public, and --private was given",
                code="ZH009",
                hint="make it private in its settings on the Hub, or leave --private out",
            )
        tagged = remote.tags.get(self.staged.tag, "")
        if tagged:
            return self._already(remote, tagged)
        resumed = self.adopt_from(remote, remote.head)
        self.step(0, "comparing its contract")
        compared = compare_with_hub(self.staged.folder, self.repo, remote, self.fresh_folder())
        plan = plan_release(self.staged, self.repo, remote, compared=compared)
        self._say(plan)
        hub.check_card((self.staged.folder / CARD_NAME).read_text(encoding="utf-8"))
        if self.dry_run:
            return Published(outcome="planned", plan=plan, where=hub.repository_url(self.repo), verified={})
        commit = self._commit(plan)
        self.step(2, f"tagging {commit[:12]}")
        hub.create_tag(self.repo, self.staged.tag, commit)
        return self._verified(plan, commit, "completed" if resumed and not plan.writes else "published")

    def _commit(self, plan: ReleasePlan) -> str:
        if not plan.writes:
            return plan.parent
        parent = plan.parent
        if plan.new_repository:
            hub.create_repository(self.repo, private=self.private)
            remote = hub.read_remote(self.repo)
            if set(remote.files) - {KEPT}:
                raise foreign_files(self.repo, sorted(set(remote.files) - {KEPT}))
            parent = remote.head
        self.step(1, "one commit")
        return self.land(plan, parent)

    def land(self, plan: ReleasePlan, parent: str) -> str:
        """Puts the release on `main`, on top of a commit, and returns the commit that holds it."""
        return hub.commit(
            self.repo,
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
        plan = plan_release(self.staged, self.repo, replace(remote, head=tagged), published=True)
        self._say(plan)
        if self.dry_run:
            return Published(outcome="planned", plan=plan, where=hub.repository_url(self.repo), verified={})
        return self._verified(plan, tagged, "unchanged", card_may_differ=True)

    def adopt_from(self, remote: Remote, commit: str) -> bool:
        """Takes over the evidence of a commit with this release; False where it holds something else."""
        known = remote.files.get(LOCK_NAME)
        if not commit or (known and commit == remote.head and known.size_bytes > MAX_DOCUMENT_BYTES):
            return False
        raw = hub.read_file(self.repo, LOCK_NAME, commit, self.fresh_folder())
        lock = parse_lock(raw) if raw is not None else None
        if lock is None or not self.staged.same_release(lock):
            return False
        self.staged = self.staged.adopt(
            lock, lambda name: hub.read_file(self.repo, name, commit, self.fresh_folder())
        )
        return True

    def _verified(
        self, plan: ReleasePlan, commit: str, outcome: Outcome, *, card_may_differ: bool = False
    ) -> Published:
        """Downloads what the tag names and compares it with the stage, file by file."""
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
            folder = hub.download(self.repo, commit, self.fresh_folder())
        except NotFoundError as error:
            raise VerdictError(error.message, code="ZH004", hint="run the same command again") from None
        verified = read_back(
            self.staged.folder, folder, f"{self.repo}@{self.staged.tag}", card=not card_may_differ
        )
        self.step(4, "verified")
        return Published(
            outcome=outcome,
            plan=plan,
            where=f"{hub.repository_url(self.repo)}/tree/{self.staged.tag}",
            commit=commit,
            tag=self.staged.tag,
            verified=verified,
        )

    def _say(self, plan: ReleasePlan) -> None:
        if self.on_plan is not None:
            self.on_plan(plan)
            self.on_plan = None  # a second attempt does what the first one announced

    def step(self, done: int, note: str) -> None:
        """Tells the progress: how many of the four steps are done."""
        self.progress("publish", done=done, total=4, note=note)

    def fresh_folder(self) -> Path:
        """A folder that nothing was downloaded into yet."""
        self.downloads += 1
        return self.scratch / f"download-{self.downloads}"
