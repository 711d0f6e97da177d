"""The link from a repository to the one that replaces it: `new_version` in its card's metadata.

The Hub shows it as a banner over the old repository. Only `main` gets it: what the old tags name stays as it
was published.
Source: huggingface/hub-docs, modelcard.md, "Specifying a newer version".
"""

import re
from pathlib import Path
from typing import Any

from zoo import hub
from zoo.adapter import CARD_NAME
from zoo.errors import NotFoundError, RefusedError, SpecError
from zoo.hub.address import Address
from zoo.specs.document import MAX_DOCUMENT_BYTES, parse_yaml

_FIELD = "new_version"
_FENCE = "---\n"


def successor_of(card: str, where: str) -> str:
    """The repository that a card's metadata names as the newer one; empty when it names none.

    Raises:
        RefusedError: ZH015, the metadata cannot be read.
    """
    return str(_metadata(card, where).get(_FIELD) or "")


def with_successor(card: str, successor: str) -> str:
    """A card whose metadata names a newer repository; every other line stays as it is."""
    head, body = _split(card)
    head = re.sub(rf"(?m)^{_FIELD}:[ \t]*\n", "", head)  # a field that somebody left empty
    return f"{_FENCE}{head}{_FIELD}: {successor}\n{_FENCE}{body}"


def check_successor(old: str, successor: str, scratch: Path) -> None:
    """Refuses before anything is published what `link_successor` would refuse.

    Raises:
        NotFoundError: there is no such repository.
        RefusedError: ZH015, it names another one as the newer one, or its card cannot be read.
        HubError: ZH007 no access, ZH008 no answer.
    """
    _, card = _card(old, scratch)
    named = successor_of(card, old)
    if named not in ("", successor):
        raise RefusedError(
            f"{old} already says that {named} replaces it",
            hint=f"supersede {named}, or take that line out of the card of {old}",
            code="ZH015",
        )


def link_successor(old: str, successor: str, scratch: Path) -> bool:
    """Makes a repository's card name the one that replaces it, in one commit; False where it does already.

    Args:
        old: `org/name` of the replaced one.
        successor: `org/name` of the new one.
        scratch: an empty or missing folder.

    Raises:
        NotFoundError: there is no such repository.
        RefusedError: ZH015, see `check_successor`; ZH005, the Hub rejects the card.
        HubError: ZH003 somebody else changed it, ZH007 no access, ZH008 no answer: it may have been done.
    """
    check_successor(old, successor, scratch / "looked")
    head, card = _card(old, scratch / "read")
    if successor_of(card, old) == successor:
        return False
    written = scratch / "written"
    written.mkdir()
    text = with_successor(card, successor)
    (written / CARD_NAME).write_text(text, encoding="utf-8")
    hub.check_card(text)
    hub.commit(
        Address(repo=old),
        written,
        add=[CARD_NAME],
        delete=[],
        message=f"Superseded by {successor}",
        parent=head,
    )
    return True


def _card(repo: str, scratch: Path) -> tuple[str, str]:
    remote = hub.read_remote(repo)
    if not remote.exists:
        raise NotFoundError(
            f"the Hub has no model repository {repo} to supersede", hint="check the name and your access"
        )
    present = remote.files.get(CARD_NAME)
    if present is not None and present.size_bytes > MAX_DOCUMENT_BYTES:
        raise RefusedError(
            f"the card of {repo} is too large to be edited", hint="look at it on the Hub", code="ZH015"
        )
    raw = hub.read_file(repo, CARD_NAME, remote.head, scratch) if present is not None else None
    return remote.head, (raw or b"").decode("utf-8", "replace").replace("\r\n", "\n")


def _split(card: str) -> tuple[str, str]:
    """The lines of metadata and what follows them."""
    if not card.startswith(_FENCE):
        return "", card
    head, found, body = card[len(_FENCE) :].partition(f"\n{_FENCE}")
    return (f"{head}\n", body) if found else ("", card)


def _metadata(card: str, where: str) -> dict[str, Any]:
    head, _ = _split(card)
    try:
        found = parse_yaml(head.encode(), name=f"the card of {where}") if head.strip() else {}
    except SpecError as error:
        raise RefusedError(
            f"the metadata of {where} cannot be read: {error.message}",
            hint="mend its card on the Hub first",
            code="ZH015",
        ) from None
    return found if isinstance(found, dict) else {}
