"""ZG009 to ZG011: what a release promises against what is published, its licence, and who could serve it."""

from collections.abc import Callable, Iterator
from functools import partial

from zoo.adapter import MADE, RELEASE_NAME
from zoo.ci.published import Published
from zoo.contracts.comparison import Comparison
from zoo.contracts.contract import read_contract
from zoo.contracts.version import Version, honours
from zoo.errors import NotFoundError, UsageError
from zoo.report import Finding, Location
from zoo.specs.policy import POLICY_NAME, Policy
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.conformance.engines.outlook import rows

Said = Iterator[Finding | Measurement]
SERVED = ("by the rule", "shifted")
_RELEASE = Location(file=RELEASE_NAME, pointer="version")


def promise_checks(policy: Policy, published: Callable[[], Published] | None) -> tuple[Check, ...]:
    """Those that a policy asks for.

    Args:
        policy: what is demanded.
        published: finds the published version; None where nothing is compared.
    """
    found: list[Check] = []
    if published is not None:
        found.append(
            Check(
                code="ZG009",
                title="Its version says what changed since it was published",
                run=partial(_version, published),
                unless=partial(_nothing, published),
            )
        )
    if policy.licenses or published is not None:
        found.append(
            Check(
                code="ZG010",
                title="Its licence is allowed, and the published one",
                run=partial(_licence, policy, published),
                unless=_no_release,
            )
        )
    if policy.serves:
        found.append(
            Check(
                code="ZG011",
                title="Every engine of the policy would activate it",
                run=partial(_serves, policy),
                requires=("ZC001",),
            )
        )
    return tuple(found)


def _version(published: Callable[[], Published], context: Context) -> Said:
    """ZG009: the contract's step, and other files under the same number."""
    before, mine = published(), context.repo.release
    yield Measurement(name="published", value=before.where)
    if before.contract is not None:
        compared = Comparison.of(before.contract, read_contract(context.repo.root, where="this release"))
        yield Measurement(name="contract", value=compared.verdict)
        compared.check()
    old = Version.parse(before.release.version) if before.release else None
    new = Version.parse(mine.version) if mine else None
    other = [name for name in sorted(MADE) if before.files.get(name) != context.digests.get(name)]
    if old and new and other and before.files and not old.order < new.order:
        yield Finding(
            message=f"{', '.join(other)} differ from those of {before.where}, and the version is still {new}",
            location=_RELEASE,
            fix="raise `version` in zoo.yaml: users and caches take one number for one thing",
        )


def _licence(policy: Policy, published: Callable[[], Published] | None, context: Context) -> Said:
    """ZG010: on the policy's list, and no other than the published one unless the version says so."""
    release = context.repo.release
    if release is None:
        return
    place = Location(file=RELEASE_NAME, pointer="license")
    yield Measurement(name="license", value=release.license)
    if policy.licenses and release.license not in policy.licenses:
        yield Finding(
            message=f"its licence is {release.license}, and the policy allows {', '.join(policy.licenses)}",
            location=place,
            fix=f"release it under one of those, or allow this one in {POLICY_NAME}",
        )
    before = _found(published)
    if before is None or before.release is None or before.release.license == release.license:
        return
    old, new = Version.parse(before.release.version), Version.parse(release.version)
    if old is None or new is None or not honours(old, new, "breaking"):
        yield Finding(
            message=f"its licence is {release.license}; {before.where} was released under "
            f"{before.release.license}, and the version does not say that something broke",
            location=place,
            fix="restore the licence, or raise the version as for a breaking change: who updates agreed "
            "to the old one",
        )


def _serves(policy: Policy, context: Context) -> Said:
    """ZG011: by the files alone."""
    known = {row.name: row for row in rows(context.repo)}
    for name in policy.serves:
        row = known.get(name)
        if row is None or row.outlook is None:
            raise UsageError(
                f"{POLICY_NAME} names an engine {name}", hint=f"known are {', '.join(sorted(known))}"
            )
        yield Measurement(name=name, value=row.outlook.verdict)
        if row.outlook.verdict not in SERVED:
            yield Finding(
                message=f"{name} would not activate it ({row.outlook.verdict}): {row.outlook.reason}",
                fix="zoo engines PATH says what each engine would do",
            )


def _found(published: Callable[[], Published] | None) -> Published | None:
    try:
        return published() if published else None
    except NotFoundError:
        return None


def _nothing(published: Callable[[], Published], _: Context) -> str:
    return "" if _found(published) else "nothing is published before this"


def _no_release(context: Context) -> str:
    return "" if context.repo.release else f"no {RELEASE_NAME} states a licence"
