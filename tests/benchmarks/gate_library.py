"""release-4: the gate's verdicts on a library of 40 adapters of which 15 became worse.

    python -m tests.benchmarks.gate_library [--out FOLDER]

The library is made by a seed and published on a Hub on loopback; then every adapter changes: 25 in order,
15 by a seeded regression (three each of contract, quality, cache, licence, engine). `zoo gate --json` runs
over it twice, in processes of their own: once as on a desk, once as on GitHub Actions. A regression is caught
when its adapter is not accepted and the check that must see it is among those that did not pass. Both
documents have to be the same but for times.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.evidence import record
from tests.ci.seeded import IN_ORDER, REGRESSIONS, Seeded, change_library
from tests.ci.shelf import Shelf, build_shelf, publish, write_policy
from tests.hub.server import HubServer

Document = list[dict[str, Any]]
CHANGES: Mapping[str, Seeded] = {**REGRESSIONS, **IN_ORDER}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate said of one adapter.

    Attributes:
        name: the adapter.
        what: became of it.
        status: of its report.
        codes: of the checks that did not pass.
    """

    name: str
    what: str
    status: str
    codes: frozenset[str]

    @property
    def caught(self) -> bool:
        """Whether it is stopped, and by the check that must see what became of it."""
        return self.status != "passed" and CHANGES[self.what].code in self.codes


def run_gate(shelf: Shelf, library: Path, policy: Path, hub: HubServer, *, on_actions: bool) -> Document:
    """One gate in a process of its own, with a client that has seen nothing.

    Raises:
        RuntimeError: it ended in another way than with a verdict.
    """
    home = Path(tempfile.mkdtemp(dir=shelf.root, prefix="home-"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    environment = kept | hub.environment(home, xet=False)
    if on_actions:
        environment |= {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(home / "summary.md"),
        }
    command = [sys.executable, "-m", "zoo", "gate", library.name, "--policy", policy.name]
    command += ["--base", str(shelf.base.folder), "--json", "--quiet"]
    done = subprocess.run(command, cwd=library.parent, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1, 3):
        raise RuntimeError(f"zoo gate ended with {done.returncode}: {done.stderr[-800:]}")
    if on_actions and "::error" not in done.stderr:
        raise RuntimeError("on GitHub Actions no error was annotated")
    found: Document = json.loads(done.stdout)
    return found


def without_times(document: Document) -> str:
    """The document as text, the seconds of every check left out."""
    reports = [
        report | {"results": [{k: v for k, v in one.items() if k != "seconds"} for one in report["results"]]}
        for report in document
    ]
    return json.dumps(reports, indent=2)


def verdicts(document: Document, assigned: Mapping[str, str]) -> list[Verdict]:
    """What the gate said of each adapter."""
    return [
        Verdict(
            name=name,
            what=assigned[name],
            status=report["status"],
            codes=frozenset(one["code"] for one in report["results"] if not _passed(one["outcome"])),
        )
        for report in document
        for name in [Path(report["subject"]).name]
    ]


def _passed(outcome: Mapping[str, Any]) -> bool:
    if outcome["kind"] == "flagged":
        return all(finding["severity"] != "error" for finding in outcome["findings"])
    return outcome["kind"] in ("passed", "not_applicable")


def measure(out: Path) -> None:
    """Makes the library, gates it twice, records the figure."""
    shelf = build_shelf(out)
    assigned = change_library(shelf, out / "library", CHANGES)
    policy = write_policy(shelf, out / "zoo-gate.yaml")
    known = [name for name in shelf.names if not CHANGES[assigned[name]].unpublished]
    with HubServer() as hub:
        publish(shelf, hub.store, known)
        runs = [run_gate(shelf, out / "library", policy, hub, on_actions=there) for there in (False, True)]
    (out / "gate.json").write_text(json.dumps(runs[0], indent=2))
    same = without_times(runs[0]) == without_times(runs[1])
    found = verdicts(runs[0], assigned)
    bad = [one for one in found if CHANGES[one.what].kind]
    alarms = [one for one in found if not CHANGES[one.what].kind and one.status != "passed"]
    caught = [one for one in bad if one.caught]
    for one in found:
        wanted = f"wants {CHANGES[one.what].code}" if CHANGES[one.what].kind else "in order"
        print(f"{one.status:<10} {one.name:<14} {one.what:<36} {wanted:<12} {' '.join(sorted(one.codes))}")
    kinds = Counter(CHANGES[one.what].kind for one in caught)
    record(
        "release",
        "release-4",
        "gate verdicts on a library of 40 adapters on one tiny base, of which 15 became worse since they "
        "were published: regressions stopped by the check that must see them, and false alarms",
        {
            "adapters": len(found),
            "regressions": len(bad),
            "caught": len(caught),
            "caught_by_kind": dict(sorted(kinds.items())),
            "false_alarms": len(alarms),
            "two_runs_byte_identical_but_for_times": same,
        },
        "15 of 15 caught, 0 false alarms, two runs byte-identical but for times",
        len(found) == 40 and len(bad) == len(caught) == 15 and not alarms and same,
        "the state published on a Hub on loopback, the same adapters",
        "python -m tests.benchmarks.gate_library",
        note="8 adapters are trained, each of 4 siblings is the same function in another basis of its ranks; "
        "damaged weights lose a fifth of their answers, noise that is in order up to a fiftieth; the second "
        "run has the environment of GitHub Actions",
    )


def main() -> None:
    """Measures in a folder that is kept, or in one that is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep everything in this folder, which must not exist")
    out = parser.parse_args().out
    folder = Path(out or tempfile.mkdtemp(prefix="gate-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        measure(folder.resolve())
    finally:
        if out is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
