"""Publishing through a pull request: proposed, gated on what others would download, merged, tagged.

The gate runs on a clean download of `refs/pr/N`, not on the stage: what is merged is what was checked after
it had gone through the Hub. Its report becomes a comment, whatever it says.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from zoo.errors import DefectError, RefusedError, UndecidedError, ZooError
from zoo.hub import Remote, pull_request
from zoo.hub.pull_request import PullRequest
from zoo.publishing.plan import ReleasePlan
from zoo.publishing.repository import HubPublication
from zoo.publishing.result import read_back
from zoo.render.markdown import render_markdown
from zoo.report import Report
from zoo.validators.validate import validate

GateOf = Callable[[Path], Report]  # the verdict on a folder


class ReviewedPublication(HubPublication):
    """A publication onto the Hub whose commit goes to a pull request first."""

    def __init__(
        self, *arguments: Any, base: str, device: str, gate: GateOf | None = None, **settings: Any
    ) -> None:
        """Remembers what `zoo.release.publish` was given; without a `gate` it is the checks."""
        super().__init__(*arguments, **settings)
        self.gate = gate or partial(validate, base=base, device=device, progress=self.progress)

    def land(self, plan: ReleasePlan, opened: Remote) -> str:
        """Proposes the release, or finds it proposed, gates it, and merges it; arguments as of the other.

        Raises:
            RefusedError: ZH003 `main` moved and conflicts; ZH012 the gate says no, or another content is
                proposed as this version, or the pull request was closed, or changed while it was gated.
            UndecidedError: ZH012, the gate could not check everything.
            VerdictError: ZH004, what was downloaded is not what was proposed, or not what was merged: no tag
                names it then.
        """
        proposal = self._proposed(plan) or pull_request.propose(
            self.target,
            self.staged.folder,
            add=plan.paths("add", "change"),
            delete=plan.paths("delete"),
            message=plan.message,
            parent=opened.head,
        )
        self.state = f"{proposal.url} is open, and main is as it was"
        self.step(1, f"gating {proposal.url}")
        commit = pull_request.head(self.repo, proposal)
        folder = self.fetch(commit)
        read_back(self.staged.folder, folder, f"{self.repo}#{proposal.number}")
        report = self._gated(folder, proposal)
        pull_request.comment(self.repo, proposal.number, render_markdown(report))
        if report.status() != "passed":
            raise _stopped(report, proposal)
        if pull_request.head(self.repo, proposal) != commit:
            raise RefusedError(
                f"{proposal.url} was changed while the gate looked at it",
                hint="see who pushed to it, and run the same command again",
                code="ZH012",
            )
        self.state = f"{proposal.url} may be merged, and no tag names it yet"
        merged = pull_request.merge(self.repo, proposal.number)
        # Nothing pins a merge to a commit, and main may have moved without a conflict: look, then tag.
        found = self.fetch(merged)
        read_back(self.staged.folder, found, f"{self.target} at the merge commit {merged[:12]}")
        with suppress(ZooError):  # tidiness, and nothing that a release waits for
            for twin in self._ours(plan):
                pull_request.close(self.repo, twin.number, f"The same as #{proposal.number}: merged.")
        return merged

    def _proposed(self, plan: ReleasePlan) -> PullRequest | None:
        """The open pull request of an earlier run with this very release; its evidence is taken over.

        Anybody may open one of that title: of a stranger's nothing is taken over, and nothing merged.
        """
        for one in self._ours(plan):
            if self.adopt_from(Remote(exists=True), one.revision):
                return one
            raise RefusedError(
                f"{one.url} proposes version {plan.version} with other content",
                hint="close it on the Hub, or raise `version` in zoo.yaml",
                code="ZH012",
            )
        return None

    def _ours(self, plan: ReleasePlan) -> list[PullRequest]:
        """Open pull requests with this title of the account that publishes."""
        found = pull_request.proposed(self.repo, plan.message)
        ours = pull_request.account() if found else ""
        return [one for one in found if ours and one.author == ours]

    def _gated(self, folder: Path, proposal: PullRequest) -> Report:
        report = self.gate(folder)
        name = f"{self.repo}@{proposal.revision}"
        return Report(
            subject=name,  # not the path of a folder that nobody else has
            digest=report.digest,
            results=report.results,
            environment=report.environment,
            allowed_skips=report.allowed_skips,
        )


def _stopped(report: Report, proposal: PullRequest) -> ZooError:
    said = f"the gate on {proposal.url} {report.status()}: its report is a comment there"
    kinds: dict[str, type[ZooError]] = {"failed": RefusedError, "crashed": DefectError}
    hint = "mend the release, close that pull request, and publish again"
    return kinds.get(report.status(), UndecidedError)(said, hint=hint, code="ZH012")
