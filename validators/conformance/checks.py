"""The dynamic part of a validation, in the order in which it runs."""

from zoo.validators.check import Check
from zoo.validators.conformance import kv_checks, peft_checks, reference_checks, use_checks

CONFORMANCE_CHECKS: tuple[Check, ...] = (
    peft_checks.LOADS,
    *reference_checks.CHECKS,
    *kv_checks.CHECKS,
    *peft_checks.CHECKS,
    *use_checks.CHECKS,
)
