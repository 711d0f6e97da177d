"""Every check there is, in the order in which they run."""

from zoo.validators.check import Check
from zoo.validators.checks.config import CONFIG_CHECKS
from zoo.validators.checks.evidence import EVIDENCE_CHECKS
from zoo.validators.checks.files import FILE_CHECKS
from zoo.validators.checks.gating import GATING_CHECKS
from zoo.validators.checks.invocation import INVOCATION_CHECKS
from zoo.validators.checks.io import IO_CHECKS
from zoo.validators.checks.lock import LOCK_CHECKS
from zoo.validators.checks.prompts import PROMPT_CHECKS
from zoo.validators.checks.release import RELEASE_CHECKS
from zoo.validators.checks.weights import WEIGHT_CHECKS
from zoo.validators.conformance.checks import CONFORMANCE_CHECKS
from zoo.validators.conformance.replay_checks import REPLAY_CHECKS, SHIPPED_CHECKS

# What the files of the adapter and of its base decide, without running a model.
STATIC_CHECKS: tuple[Check, ...] = (
    *FILE_CHECKS,
    *CONFIG_CHECKS,
    *GATING_CHECKS,
    *RELEASE_CHECKS,
    *LOCK_CHECKS,
    *WEIGHT_CHECKS,
    *INVOCATION_CHECKS,
    *PROMPT_CHECKS,
    *SHIPPED_CHECKS,
    *IO_CHECKS,
)
ALL_CHECKS: tuple[Check, ...] = (*STATIC_CHECKS, *EVIDENCE_CHECKS, *CONFORMANCE_CHECKS, *REPLAY_CHECKS)


def known_codes() -> frozenset[str]:
    """The code of every check."""
    return frozenset(check.code for check in ALL_CHECKS)
