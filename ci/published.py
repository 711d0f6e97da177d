"""What is published of an adapter, and whether another measurement of it is worse."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from zoo import hub
from zoo.adapter import LOCK_NAME
from zoo.contracts.version import Version
from zoo.errors import NotFoundError, SpecError
from zoo.report import Finding, Flagged, Location, NotApplicable, Outcome, Passed, Skipped
from zoo.specs.document import MAX_DOCUMENT_BYTES, read_json
from zoo.specs.lock import BehaviourRecord, Lock

Z95 = 1.959963984540054  # of a two-sided interval of 95 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The measurement recorded in a published release.

    Attributes:
        where: `org/name@tag`.
        behaviour: recorded there.
    """

    where: str
    behaviour: BehaviourRecord

    @classmethod
    def read(cls, repo: str) -> "Published":
        """Reads the lock at a repository's highest version.

        Raises:
            NotFoundError: no such repository, no version in it, or no lock in that.
            SpecError: ZL001, the published lock is none.
            HubError: ZH007 no access, ZH008 no answer.
        """
        remote = hub.read_remote(repo)
        versions = [
            (known.order, tag) for tag in remote.tags if (known := Version.parse(tag.removeprefix("v")))
        ]
        if not versions:
            raise NotFoundError(f"{repo} has no published version", hint="zoo publish makes one")
        tag = max(versions)[1]
        with tempfile.TemporaryDirectory(prefix="zoo-gate-") as scratch:
            folder = Path(scratch)
            sizes = hub.sizes(repo, [LOCK_NAME], remote.tags[tag])
            if sizes.get(LOCK_NAME, 0) > MAX_DOCUMENT_BYTES:
                raise SpecError(f"{LOCK_NAME} of {repo}@{tag} is larger than any lock", code="ZL001")
            raw = hub.read_file(repo, LOCK_NAME, remote.tags[tag], folder / "download")
            if raw is None:
                raise NotFoundError(f"{repo}@{tag} has no {LOCK_NAME}")
            (folder / LOCK_NAME).write_bytes(raw)
            lock = read_json(folder / LOCK_NAME, Lock, code="ZL001")
        return cls(where=f"{repo}@{tag}", behaviour=lock.behaviour)

    def compared_with(self, new: BehaviourRecord, *, allowed_drop: float) -> Outcome:
        """Whether a new measurement is worse than the published one by more than chance and `allowed_drop`.

        Two accuracies on the same held-out file are taken as independent samples, which makes the interval
        wider than a paired one would be: a drop that is flagged is one. On other files they are not compared.

        Args:
            new: of the adapter at the gate.
            allowed_drop: of the accuracy.

        Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 1 (Wald) for the difference.
        """
        before, after = self.behaviour.own_accuracy, new.own_accuracy
        if before is None:
            return NotApplicable(reason=f"{self.where} records no measurement")
        if after is None:
            return Skipped(
                reason=f"{self.where} was measured ({before:.3f}), and this is not",
                hint="measure it on the same held-out data",
            )
        if new.data_sha256 is None or new.data_sha256 != self.behaviour.data_sha256:
            return Skipped(
                reason=f"that {self.where} was measured on the same data is not recorded: no comparison",
                hint="measure it on the data that the published version was measured on",
            )
        spread = Z95 * math.sqrt(_variance(before, self.behaviour.samples) + _variance(after, new.samples))
        drop = before - after
        measured = {
            "published_accuracy": before,
            "accuracy": after,
            "drop": drop,
            "drop_half_width_95": spread,
        }
        if drop - spread > allowed_drop:
            said = f"accuracy fell from {before:.3f} ({self.where}) to {after:.3f}, beyond chance"
            return Flagged(
                findings=[Finding(message=said, location=Location(file=LOCK_NAME, pointer="behaviour"))],
                measured=measured,
            )
        return Passed(measured=measured)


def _variance(share: float, samples: int) -> float:
    """Of a share over so many samples; never zero, which a share of 0 or 1 would make it."""
    smoothed = (share * samples + 1) / (samples + 2)  # Laplace's rule
    return smoothed * (1 - smoothed) / max(1, samples)
